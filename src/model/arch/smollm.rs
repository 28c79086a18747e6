//! SmolLM3: Llama's layers, of which every fourth knows no positions. No key says so.

use crate::error::Result;
use crate::kernel::rope::Pairing;
use crate::model::plan::{Attention, Plan};

use super::Source;
use super::decoder::Sizes;

pub(super) fn smollm3(source: &mut Source<'_>) -> Result<Plan> {
    let sizes = Sizes::read(&source.keys)?;
    let window = source.window()?;
    let rope = source.rope(&sizes, Pairing::Neighbours)?;
    source.decoder(&sizes, vec![rope], |source, index| {
        let rope = ((index + 1) % 4 != 0).then_some(0);
        let attention = source.attention(&sizes, index)?;
        source.layer(&sizes, index, Attention { window, rope, ..attention })
    })
}
