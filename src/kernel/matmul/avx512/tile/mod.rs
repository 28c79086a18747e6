//! The products of an unpacked row panel.

mod blocks_of_32;
mod sums;
mod super_blocks;

pub(super) use blocks_of_32::{ROWS as SMALL_ROWS, rows_of_tile as rows_of_small_tile, small_tile};
pub(super) use super_blocks::super_tile;
