//! Many conversations with one model at once.
