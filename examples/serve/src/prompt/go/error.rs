//! Why a template cannot be used.

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
