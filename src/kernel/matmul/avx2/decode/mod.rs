//! What formats supply.

mod blocks_of_32;
mod format;
mod super_blocks;

pub(super) use format::Decode;
