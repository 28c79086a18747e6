//! What a route needs of its client, and does to the store.

/// A column of the route table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Answers without a key: whether the server lives.
    Open,
    /// Needs a key, if the server has keys.
    Use,
    /// Changes the store: a read-only server refuses it.
    Change,
}
