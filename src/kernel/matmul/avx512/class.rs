//! What the products of an unpacked panel depend on: formats share them.

use super::decode::{SmallCodes, SuperScales};

/// What is known of a format when it runs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Class {
    /// What was added to the codes to make them unsigned: a power of two; 0 for formats with
    /// minimums.
    pub offset: i16,
    /// The largest magnitude of a code.
    pub most: i32,
}

impl Class {
    pub const fn of_super<F: SuperScales>() -> Self {
        assert!(F::HAS_MIN == (F::OFFSET == 0), "offsets are for formats without minimums");
        Class { offset: F::OFFSET, most: F::MOST }
    }

    pub const fn of_small<F: SmallCodes>() -> Self {
        assert!(F::HAS_MIN == (F::OFFSET == 0), "offsets are for formats without minimums");
        Class { offset: F::OFFSET, most: F::MOST }
    }
}

/// What the code of a tile of super-blocks is made for.
pub(super) trait SuperClass {
    /// Weights per integer scale: 16 or 32.
    const SUB: usize;
    /// Whether there are minimums; else there is an offset.
    const HAS_MIN: bool;
}

/// An offset, and a scale per 16 weights: Q3_K, Q6_K, IQ4_XS, Wide.
pub(super) struct Offset16;

/// Minimums and a scale per 16 weights: Q2_K.
pub(super) struct Min16;

/// Minimums and a scale per 32 weights: Q4_K, Q5_K.
pub(super) struct Min32;

impl SuperClass for Offset16 {
    const SUB: usize = 16;
    const HAS_MIN: bool = false;
}

impl SuperClass for Min16 {
    const SUB: usize = 16;
    const HAS_MIN: bool = true;
}

impl SuperClass for Min32 {
    const SUB: usize = 32;
    const HAS_MIN: bool = true;
}
