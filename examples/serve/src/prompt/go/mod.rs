//! Go's template language (`text/template`), as far as prompts need it.
//!
//! ```text
//! source ─► lex ─► parse ─► node (the tree) ─► execute ─► text
//!                                   value, function, format, json ─┘
//! ```
//! The language is whole but for method calls, channels, complex numbers and `%`-verbs
//! that no prompt uses. Templates come with models, so everything is bounded: bytes of
//! source and output, nesting, steps.

mod error;
mod execute;
mod format;
mod function;
mod json;
mod lex;
mod literal;
mod node;
mod output;
mod parse;
mod pipeline;
mod template;
mod value;

pub use error::TemplateError;
pub use literal::quote;
pub use node::{Branch, Command, Node, Pipe, Span, Term, TermKind};
pub use output::Output;
pub use parse::Tree;
pub use template::Template;
pub use value::{Map, Value};

/// Stack to parse and render on, whatever the caller's thread has left. Reserved
/// addresses; pages that are not touched cost nothing.
const STACK: usize = 32 << 20;

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
