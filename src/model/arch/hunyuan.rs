//! Hunyuan, dense: norms of heads behind the rotary embedding. The base of the frequencies
//! includes the NTK factor.

use crate::error::Result;
use crate::kernel::rope::Pairing;
use crate::model::plan::{Attention, Plan};

use super::Source;
use super::decoder::Sizes;

pub(super) fn dense(source: &mut Source<'_>) -> Result<Plan> {
    let sizes = Sizes::read(&source.keys)?;
    let window = source.window()?;
    let rope = source.rope(&sizes, Pairing::Halves)?;
    source.decoder(&sizes, vec![rope], |source, index| {
        let attention = source.normed_attention(&sizes, index)?;
        source.layer(&sizes, index, Attention { window, norm_last: true, ..attention })
    })
}
