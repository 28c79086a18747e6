//! The products of row panels by the tile multiplier.

mod blocks_of_32;
mod sums;
mod super_blocks;

pub(super) use blocks_of_32::{
    Memory as SmallMemory, Unpack as UnpackSmall, small_tiles, unpack as unpack_small,
};
pub(super) use super_blocks::{Memory as SuperMemory, super_tiles};
