//! Go's template language (`text/template`), as far as prompts need it.
//!
//! ```text
//! source ─► lex ─► parse ─► node (the tree) ─► execute ─► text
//!                                   value, function, format, json ─┘
//! ```
//! The language is whole but for method calls, channels, complex numbers and `%`-verbs
//! that no prompt uses. Templates come with models, so everything is bounded: bytes of
//! source and output, nesting, steps.

mod execute;
mod format;
mod function;
mod json;
mod lex;
mod literal;
mod node;
mod parse;
mod pipeline;
mod value;

use std::fmt;

pub use literal::quote;
pub use node::{Branch, Command, Node, Pipe, Span, Term, TermKind};
pub use parse::Tree;
pub use value::{Map, Value};

/// Bytes of a template's source.
pub const MAX_SOURCE: usize = 256 << 10;
/// Bytes of one rendering, and of one text within it.
pub const MAX_OUTPUT: usize = 4 << 20;
/// Steps of one rendering; 64 bytes that are written or compared, or 16 that are made, are
/// one.
const FUEL: u64 = 1_000_000;
/// Templates that call each other, or themselves.
const MAX_CALLS: usize = 64;
/// Blocks, pipelines and calls within each other, while it runs.
const MAX_DEPTH: usize = 512;
/// Stack to parse and render on, whatever the caller's thread has left. Reserved
/// addresses; pages that are not touched cost nothing.
const STACK: usize = 32 << 20;

/// Why a template cannot be used; worded as Go words it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// It is no template.
    #[error("template: :{line}: {what}")]
    Syntax {
        /// From 1.
        line: usize,
        /// What is wrong there.
        what: String,
    },
    /// It failed.
    #[error("template: :{line}:{column}: executing {name:?} at <{context}>: {what}")]
    Failed {
        /// From 1.
        line: usize,
        /// Bytes before it on that line.
        column: usize,
        /// The defined template that ran; empty for the whole.
        name: String,
        /// What stands there.
        context: String,
        /// What went wrong.
        what: String,
    },
    /// It wants more than it may have.
    #[error("template: {0}")]
    Limit(&'static str),
}

/// A parsed template.
pub struct Template {
    source: String,
    tree: Tree,
}

impl Template {
    /// Parses `source`. Needs room to recurse: see [`on_large_stack`].
    ///
    /// # Errors
    /// What Go refuses, and sources of more than 256 KiB.
    pub fn parse(source: &str) -> Result<Self, TemplateError> {
        if source.len() > MAX_SOURCE {
            return Err(TemplateError::Limit("the source is longer than 256 KiB"));
        }
        let tree = parse::parse(source, function::knows)?;
        Ok(Template { source: source.to_owned(), tree })
    }

    /// The source, as given.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// What it says.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// The same source with another tree, made from the first.
    pub fn with_root(&self, root: Vec<Node>) -> Self {
        let tree = Tree { root, defined: self.tree.defined.clone() };
        Template { source: self.source.clone(), tree }
    }

    /// Appends what `more` does.
    pub fn push(&mut self, more: Node) {
        self.tree.root.push(more);
    }

    /// Appends what it makes of `dot`. Needs room to recurse: see [`on_large_stack`].
    ///
    /// # Errors
    /// What fails in Go, and what runs past the limits.
    pub fn render(&self, dot: &Value, output: &mut Output) -> Result<(), TemplateError> {
        execute::execute(self, dot, output)
    }
}

/// What templates have written, and what they may still do.
#[derive(Debug)]
pub struct Output {
    /// The text so far.
    pub text: String,
    fuel: u64,
}

impl Default for Output {
    fn default() -> Self {
        Output { text: String::new(), fuel: FUEL }
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Template").field("source", &self.source).finish_non_exhaustive()
    }
}

/// Runs `work` where there is room to recurse.
///
/// # Errors
/// Its own.
pub fn on_large_stack<T: Send>(
    work: impl FnOnce() -> Result<T, TemplateError> + Send,
) -> Result<T, TemplateError> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("prompt template".to_owned())
            .stack_size(STACK)
            .spawn_scoped(scope, work)
            .map_err(|_| TemplateError::Limit("no thread to run it on; try again"))?;
        thread.join().unwrap_or(Err(TemplateError::Limit("the engine failed; its log says more")))
    })
}
