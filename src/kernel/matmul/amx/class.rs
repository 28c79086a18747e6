//! What the products of unpacked tiles depend on: formats share them.

/// What the code of a tile of super-blocks is made for.
pub(super) trait Class {
    /// Whether all products of codes and scales are in 0..=255.
    const ONE_BYTE: bool;
    const HAS_MIN: bool;
    /// Weights per minimum, where there are minimums: 16 or 32.
    const SUB: usize;
}

/// Q2_K.
pub(super) struct OneByteMin16;

/// Q4_K, Q5_K.
pub(super) struct Min32;

/// Q3_K, Q6_K, IQ4_XS, Wide.
pub(super) struct NoMin;

impl Class for OneByteMin16 {
    const ONE_BYTE: bool = true;
    const HAS_MIN: bool = true;
    const SUB: usize = 16;
}

impl Class for Min32 {
    const ONE_BYTE: bool = false;
    const HAS_MIN: bool = true;
    const SUB: usize = 32;
}

impl Class for NoMin {
    const ONE_BYTE: bool = false;
    const HAS_MIN: bool = false;
    const SUB: usize = 16;
}
