//! The layouts of activations.

mod interleave;
mod threes;

pub(super) use interleave::{
    BLOCKS, D8, Interleaved, ROWS, SUMS32, columns, sums_line, unit_lines,
};
pub(super) use threes::{ROWS as TILE_ROWS, STEP, Three, Threes, rows_of_tile};
