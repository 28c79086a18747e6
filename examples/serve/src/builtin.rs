//! The small model that is part of the program: it writes short English stories.

use tramontane::{Gguf, Model, ModelOptions};

/// Its GGUF file.
pub static BYTES: &[u8] = include_bytes!("../../../models/storyteller-q4_k_m.gguf");

/// Opens the file; reads no weights.
///
/// # Errors
/// None in practice: the bytes are tested.
pub fn file() -> tramontane::Result<Gguf> {
    Gguf::from_bytes(BYTES)
}

/// Opens the model.
///
/// # Errors
/// As [`file()`].
pub fn model(options: &ModelOptions) -> tramontane::Result<Model> {
    Model::from_gguf(file()?, options)
}
