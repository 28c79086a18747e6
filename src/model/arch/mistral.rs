//! Ministral 3, Mistral Small 3.1 and later: Llama's layers, YaRN, and queries that grow
//! with their position.

use crate::error::Result;
use crate::kernel::rope::{Pairing, Temperature};
use crate::model::plan::{Attention, Plan};

use super::Source;
use super::decoder::Sizes;

pub(super) fn mistral3(source: &mut Source<'_>) -> Result<Plan> {
    let keys = source.keys;
    let sizes = Sizes::read(&keys)?;
    // Queries and keys are permuted for this.
    let mut rope = source.rope(&sizes, Pairing::Neighbours)?;
    let scale = keys.finite("attention.temperature_scale", 0.0)?;
    if scale != 0.0 {
        let original_context = keys.original_context()?;
        rope.temperature = Some(Temperature { scale: f64::from(scale), original_context });
    }
    let window = source.window()?;
    source.decoder(&sizes, vec![rope], |source, index| {
        let attention = source.attention(&sizes, index)?;
        source.layer(&sizes, index, Attention { window, ..attention })
    })
}
