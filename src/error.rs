//! The one error type of the crate, grouped by who is at fault.

use std::fmt;
use std::path::PathBuf;

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong, grouped by who can do something about it.
///
/// The [`Display`](fmt::Display) text of each is one sentence for a person:
/// what was found, where, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused: a missing file, no permission, a full disk.
    #[error("{}: {}", path.display(), io_sentence(source))]
    Io {
        /// The file that was being used.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The file is damaged, truncated, or breaks the format's rules.
    #[error("{at}: {problem}")]
    File {
        /// Where in the file.
        at: Place,
        /// What is wrong there.
        problem: String,
    },
    /// The file is well-formed, but this version cannot run it.
    #[error("{at}: {problem}")]
    Unsupported {
        /// Where in the file.
        at: Place,
        /// What is not supported, and what is.
        problem: String,
    },
    /// The caller asked for something that cannot be done: an option out of its range, a
    /// path that is a directory, tokens outside the vocabulary. Nothing was changed.
    #[error("{0}")]
    Misuse(String),
    /// A bound protects the process: memory, context length, steps of a template.
    #[error("{what}: {needed} needed, {allowed} allowed")]
    Limit {
        /// What is bounded.
        what: Bounded,
        /// How much the request needs.
        needed: u64,
        /// How much is allowed.
        allowed: u64,
    },
    /// The model computed NaN or infinity: broken weights, or a bug of ours.
    #[error("{0}")]
    NonFinite(String),
    /// The chat template refused the conversation or is broken.
    #[error("chat template: {0}")]
    Template(String),
    /// An answer is not the value that was asked for.
    #[error("the answer is not what was asked for: {problem}")]
    Answer {
        /// Why it is not, and what to do.
        problem: String,
        /// The text that the model wrote.
        text: String,
        /// Whether it was cut by a limit; otherwise the type refused it.
        cut: bool,
    },
    /// The work was cancelled from another thread.
    #[error("cancelled")]
    Cancelled,
    /// The engine has as many waiting requests as it is allowed to; try again later.
    #[error("{waiting} requests are waiting, {allowed} may; try again later")]
    QueueFull {
        /// Requests in the queue.
        waiting: usize,
        /// How many may be.
        allowed: usize,
    },
    /// The engine was stopped before the request ended.
    #[error("the engine was stopped")]
    Closed,
}

/// What [`Error::Limit`] is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Bounded {
    /// Positions of a context: shorten the input, or raise `num_ctx`.
    Context,
    /// Bytes of keys and values under a budget: lower `num_ctx` or `num_predict`, or raise
    /// [`kv_bytes`](crate::EngineOptions::kv_bytes).
    KvMemory,
    /// Bytes that the system did not give.
    Memory(&'static str),
    /// Threads that the system did not give.
    Threads,
    /// Answers that call functions: raise `max_rounds` of the tool options.
    Rounds,
    /// A size in a model file.
    File(&'static str),
    /// A size in a chat template, or in what it renders.
    Template(&'static str),
    /// A size of a constraint, or of what is compiled from it.
    Constraint(&'static str),
}

impl fmt::Display for Bounded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Bounded::Context => "positions in the context (shorten the input or raise num_ctx)",
            Bounded::KvMemory => {
                "bytes of keys and values (lower num_ctx or num_predict, or raise kv_bytes)"
            }
            Bounded::Threads => "threads",
            Bounded::Rounds => "answers that call functions (raise max_rounds)",
            Bounded::Memory(what)
            | Bounded::File(what)
            | Bounded::Template(what)
            | Bounded::Constraint(what) => what,
        })
    }
}

/// What the operating system said, and what to do about the usual cases.
fn io_sentence(source: &std::io::Error) -> String {
    match source.kind() {
        std::io::ErrorKind::NotFound => "no such file; check the path".into(),
        std::io::ErrorKind::PermissionDenied => {
            "permission denied; this user cannot read it".into()
        }
        _ => source.to_string(),
    }
}

/// A place in a file, mostly GGUF, for error texts.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// The file as a whole, or its fixed header.
    Header,
    /// A byte offset from the start of the file.
    Offset(u64),
    /// A metadata key.
    Key(String),
    /// A tensor, by name.
    Tensor(String),
    /// A vocabulary entry, by token id.
    Token(u32),
    /// One file of a split model.
    Shard(String),
    /// A keyword of a JSON schema, as a JSON pointer.
    Schema(String),
    /// A constraint as a whole.
    Constraint,
    /// A saved prefix, by its file's name.
    Prefix(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Header => f.write_str("GGUF header"),
            Place::Offset(offset) => write!(f, "byte {offset}"),
            // Names come from the file and may be long or contain controls.
            Place::Key(key) => write!(f, "key {:?}", shorten(key)),
            Place::Tensor(name) => write!(f, "tensor {:?}", shorten(name)),
            Place::Token(id) => write!(f, "token {id}"),
            Place::Shard(file) => write!(f, "split file {:?}", shorten(file)),
            Place::Constraint => f.write_str("constraint"),
            Place::Schema(path) => write!(f, "JSON schema at {:?}", shorten(path)),
            Place::Prefix(file) => write!(f, "saved prefix {:?}", shorten(file)),
        }
    }
}

/// Something in a model file that is odd, or not understood, and did not keep the model from
/// being opened: what was assumed instead.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Warning {
    /// Where in the file.
    pub at: Place,
    /// What is odd there, and what was assumed.
    pub problem: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.problem)
    }
}

impl Warning {
    pub(crate) fn key(key: &str, problem: impl Into<String>) -> Self {
        Warning { at: Place::Key(key.to_owned()), problem: problem.into() }
    }
}

/// At most 80 characters of `name`, so that a hostile name cannot flood a log.
fn shorten(name: &str) -> String {
    match name.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.to_owned(),
    }
}

impl Error {
    pub(crate) fn io(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Error::Io { path: path.into(), source }
    }

    pub(crate) fn file(at: Place, problem: impl Into<String>) -> Self {
        Error::File { at, problem: problem.into() }
    }

    pub(crate) fn unsupported(at: Place, problem: impl Into<String>) -> Self {
        Error::Unsupported { at, problem: problem.into() }
    }

    pub(crate) fn key(key: &str, problem: impl Into<String>) -> Self {
        Error::file(Place::Key(key.to_owned()), problem)
    }

    pub(crate) fn tensor(name: &str, problem: impl Into<String>) -> Self {
        Error::file(Place::Tensor(name.to_owned()), problem)
    }

    pub(crate) fn limit(what: Bounded, needed: usize, allowed: usize) -> Self {
        Error::Limit { what, needed: needed as u64, allowed: allowed as u64 }
    }

    pub(crate) fn misuse(problem: impl Into<String>) -> Self {
        Error::Misuse(problem.into())
    }
}
