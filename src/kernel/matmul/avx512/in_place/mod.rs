//! Few rows of activations: weights are decoded where they lie in the file.

mod blocks_of_32;
mod few_rows;
mod one_row;

pub(super) use blocks_of_32::small_blocks;
pub(super) use few_rows::super_blocks as few_rows;
pub(super) use one_row::super_blocks as one_row;
