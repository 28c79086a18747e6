//! The form of calls that a grammar makes a model write, and the control tokens in it.

/// How the calls of a template look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Form {
    pub(super) kind: Kind,
    /// What begins them; empty if nothing does.
    pub(super) mark: String,
    /// What ends them; empty if nothing does.
    pub(super) close: String,
    /// The keys of a call object.
    pub(super) name: String,
    pub(super) arguments: String,
    /// The objects stand in a list.
    pub(super) list: bool,
}

/// The kinds of forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Call objects.
    Objects,
    /// `name[ARGS]{…}`.
    Named,
    /// `name>{…}</function>` behind `<function=`.
    Function,
    /// `<function=name>` and parameters in tags.
    Parameters,
    /// DeepSeek's marks around each call.
    Fenced,
    /// `[name(key="value")]`.
    Python,
    /// Messages with channels.
    Channels,
    /// Messages with recipients.
    Recipients,
}

impl Form {
    /// A form of this kind between two markers, with the usual keys.
    pub(super) fn new(kind: Kind, mark: &str, close: &str) -> Self {
        Form {
            kind,
            mark: mark.to_owned(),
            close: close.to_owned(),
            name: "name".to_owned(),
            arguments: "arguments".to_owned(),
            list: false,
        }
    }
}

/// A control token whose text is a marker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Control {
    pub(super) text: String,
    pub(super) id: u32,
    /// It ends the answer.
    pub(super) ends: bool,
}
