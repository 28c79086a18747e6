//! What a client is told when something cannot be done.
