//! Conversations → the text that the model reads.
