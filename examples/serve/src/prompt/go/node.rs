//! What a template says, as a tree.

use std::sync::Arc;

/// Something to do.
#[derive(Debug, Clone)]
pub enum Node {
    /// Text to write.
    Text(Arc<str>),
    /// A pipeline whose value is written, unless it goes to a variable.
    Action(Pipe),
    /// `if`
    If(Branch),
    /// `range`
    Range(Branch),
    /// `with`
    With(Branch),
    /// A call of another template.
    Template {
        /// Its name.
        name: Arc<str>,
        /// Its dot.
        pipe: Option<Pipe>,
        /// Where the call stands.
        at: Span,
    },
    /// `break`
    Break,
    /// `continue`
    Continue,
}

/// A condition or list, and what to do with it.
#[derive(Debug, Clone)]
pub struct Branch {
    /// What it depends on.
    pub pipe: Pipe,
    /// If it holds.
    pub body: Vec<Node>,
    /// If not.
    pub otherwise: Option<Vec<Node>>,
}

/// `$variables := command | command`
#[derive(Debug, Clone)]
pub struct Pipe {
    /// Where it stands.
    pub at: Span,
    /// Variables that get the value.
    pub variables: Vec<Arc<str>>,
    /// Whether they exist already.
    pub assigns: bool,
    /// At least one.
    pub commands: Vec<Command>,
}

/// A term and its arguments.
#[derive(Debug, Clone)]
pub struct Command {
    /// At least one.
    pub terms: Vec<Term>,
    /// Where it stands.
    pub at: Span,
}

/// Bytes of the source.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Span {
    /// The first.
    pub start: usize,
    /// After the last.
    pub end: usize,
}

/// An operand.
#[derive(Debug, Clone)]
pub struct Term {
    /// What it is.
    pub kind: TermKind,
    /// Where it stands.
    pub at: Span,
}

/// Kinds of operands.
#[derive(Debug, Clone)]
pub enum TermKind {
    /// `.`
    Dot,
    /// `nil`
    Nil,
    /// `true`
    Bool(bool),
    /// `1`
    Int(i64),
    /// `1.5`
    Float(f64),
    /// `"text"`
    Text(Arc<str>),
    /// `.A.B`
    Field(Vec<Arc<str>>),
    /// `$x.A.B`
    Variable(Arc<str>, Vec<Arc<str>>),
    /// `len`
    Function(Arc<str>),
    /// `(…)`
    Pipe(Box<Pipe>),
    /// `(…).A.B`
    Chain(Box<Term>, Vec<Arc<str>>),
}
