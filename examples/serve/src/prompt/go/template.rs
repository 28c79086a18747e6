//! A parsed template.

use std::fmt;

use super::error::TemplateError;
use super::function;
use super::node::Node;
use super::parse::{self, Tree};

/// Bytes of a template's source.
const MAX_SOURCE: usize = 256 << 10;

/// A parsed template.
pub struct Template {
    source: String,
    tree: Tree,
}

impl Template {
    /// Parses `source`. Needs room to recurse: see [`super::on_large_stack`].
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
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Template").field("source", &self.source).finish_non_exhaustive()
    }
}
