//! Metadata and tensor names → [`Plan`]: the only place that knows names of
//! architectures.
//!
//! | file | |
//! |---|---|
//! | `keys.rs` | typed access to `{architecture}.{name}` |
//! | `unread.rs` | keys that no reader reads: refused, or warned of |
//! | `tensors.rs` | tensors by name, shapes checked; all must be claimed |
//! | `rope.rs` | rotary frequencies and their scalings |
//! | `decoder.rs` | the parts that most decoders have in common |
//! | one per family | what is particular to it |
//!
//! What each key means is described in the GGUF specification.

mod decoder;
mod keys;
mod llama;
mod mistral;
mod phi;
mod qwen;
mod rope;
mod tensors;
mod unread;

use std::cell::RefCell;
use std::collections::HashSet;

use crate::error::{Error, Place, Result, Warning};
use crate::gguf::Gguf;

use super::plan::Plan;
use keys::Keys;
use tensors::Tensors;

/// How a file of an architecture becomes a plan.
type Reader = fn(&mut Source<'_>) -> Result<Plan>;

/// Every architecture, by its name in `general.architecture`.
const ARCHITECTURES: &[(&str, Reader)] = &[
    ("llama", llama::plan),
    ("mistral3", mistral::mistral3),
    ("phi3", phi::phi3),
    ("qwen2", qwen::qwen2),
    ("qwen3", qwen::qwen3),
];

/// What a file says about a network.
#[derive(Debug)]
pub(crate) struct Network {
    pub plan: Plan,
    /// Positions that the model was trained for.
    pub context_length: usize,
    /// What is odd about its keys, and what was assumed.
    pub warnings: Vec<Warning>,
}

/// What a reader reads from.
struct Source<'a> {
    keys: Keys<'a>,
    tensors: Tensors<'a>,
}

/// Reads the network of `file`. A tensor that nothing claims is refused: ignoring it
/// would give wrong text, not less text. So is a key that changes the result and that nothing
/// computes; of other keys that nothing reads there is a warning.
pub(crate) fn read(file: &Gguf) -> Result<Network> {
    let metadata = file.metadata();
    let name = metadata.str("general.architecture")?;
    let Some((arch, reader)) = ARCHITECTURES.iter().find(|(known, _)| *known == name) else {
        let shown: String = name.chars().take(40).collect();
        let known: Vec<&str> = ARCHITECTURES.iter().map(|(name, _)| *name).collect();
        let known = known.join(", ");
        let problem = format!("architecture {shown:?} is not supported; supported: {known}");
        return Err(Error::unsupported(Place::Key("general.architecture".into()), problem));
    };
    let read = RefCell::new(HashSet::new());
    let keys = Keys { metadata, arch, read: &read };
    // Before tensors are looked for: one that is missing may come of such a key.
    unread::refuse(&keys)?;
    let context_length = keys.required("context_length", 1..=keys::limit::CONTEXT)? as usize;
    let mut source = Source { keys, tensors: Tensors::new(file) };
    let plan = reader(&mut source)?;
    source.tensors.all_claimed(plan.layers.len())?;
    Ok(Network { plan, context_length, warnings: unread::warnings(&keys) })
}
