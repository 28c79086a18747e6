//! A page: keys and values of [`PAGE`] positions of one layer.
//!
//! Each KV head has its part, in the order in which attention reads it; keys are
//! stored after the rotary embedding:
//!
//! ```text
//! I16     scales [2, 64] · keys · values
//! Q8_0    scales [2, 64] · key ratios [groups, 64] · keys · value ratios · values
//! F32     keys · values
//! ```
//!
//! Integer codes lie in pairs along the axis that attention sums
//! over, so that a broadcast pair of the other factor meets 16 pairs at once;
//! `width` = head_dim / 16, rounded up, and what is beyond head_dim is 0:
//!
//! ```text
//! keys    [8·width pairs of dimensions][64 positions][2]       q · k sums over dimensions
//! values  [32 pairs of positions][16·width dimensions][2]      w · v sums over positions
//! line    32 codes = 16 pairs; keys and values have 32·width lines each
//! ```
//!
//! | type | code | one number is |
//! |---|---|---|
//! | I16 | i16, at most [`max_code`] in size | code · scale\[position\] |
//! | Q8_0 | i8 in −127..=127 | ((256 · code · ratio\[position, dimension / 32\] + 2¹⁴) >> 15) · scale\[position\] |
//! | F32 | f32, `[64 positions, head_dim]` | itself |
//!
//! With 128 dimensions a key (or value) of a head takes 260 bytes as I16, 140 as
//! Q8_0 (i8 codes, four i16 ratios, one f32 scale), 512 as F32.

use bytemuck::{cast_slice, cast_slice_mut, from_bytes, from_bytes_mut};

use super::KvType;

/// Positions per page. Attention works page by page, so this is also the unit
/// in which its sums are formed: changing it changes the last bits of results.
pub(crate) const PAGE: usize = 64;

/// The largest code of keys, values and queries for heads of `head_dim`:
/// 4095, or less where `head_dim · max_code²` would leave i32 (from 129 on).
pub(crate) fn max_code(head_dim: usize) -> i16 {
    let most = (i32::MAX as usize / head_dim.max(1)).isqrt();
    most.min(4095) as i16
}

/// The smallest scale of a position. A row smaller than this (10⁻¹⁵) counts as
/// zero, so that no quotient of scales overflows.
pub(crate) const MIN_SCALE: f32 = 1.0 / (1u64 << 60) as f32;

/// 32 codes in one cache line.
pub(crate) type Line = [i16; 32];

/// 32 codes in half a cache line.
pub(crate) type ByteLine = [i8; 32];

/// A key scale and a value scale for each position.
pub(crate) type Scales = [[f32; PAGE]; 2];

/// One ratio for each position.
pub(crate) type Ratios = [i16; PAGE];

/// Where the code of a key lies: line and place in it.
pub(crate) fn place_of_key(slot: usize, dimension: usize) -> (usize, usize) {
    (dimension / 2 * (PAGE / 16) + slot / 16, slot % 16 * 2 + dimension % 2)
}

/// Where the code of a value lies: line and place in it.
pub(crate) fn place_of_value(width: usize, slot: usize, dimension: usize) -> (usize, usize) {
    (slot / 2 * width + dimension / 16, dimension % 16 * 2 + slot % 2)
}

/// One KV head's codes of a page.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Codes<'a, L> {
    pub keys: &'a [L],
    pub values: &'a [L],
    pub scales: &'a Scales,
}

/// One KV head's part of a page.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Head<'a> {
    I16(Codes<'a, Line>),
    Q8_0 { codes: Codes<'a, ByteLine>, key_ratios: &'a [Ratios], value_ratios: &'a [Ratios] },
    F32 { keys: &'a [f32], values: &'a [f32] },
}

/// One KV head's part of a page, to be written.
#[derive(Debug)]
pub(crate) enum HeadMut<'a> {
    I16 {
        keys: &'a mut [Line],
        values: &'a mut [Line],
        scales: &'a mut Scales,
    },
    Q8_0 {
        keys: &'a mut [ByteLine],
        values: &'a mut [ByteLine],
        key_ratios: &'a mut [Ratios],
        value_ratios: &'a mut [Ratios],
        scales: &'a mut Scales,
    },
    F32 {
        keys: &'a mut [f32],
        values: &'a mut [f32],
    },
}

/// The shape of one head of keys and values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HeadShape {
    pub head_dim: usize,
    pub kv_type: KvType,
}

impl HeadShape {
    /// Groups of 16 dimensions.
    pub fn width(self) -> usize {
        self.head_dim.div_ceil(16)
    }

    /// Groups of 32 dimensions: each has its scale in Q8_0.
    fn groups(self) -> usize {
        self.head_dim.div_ceil(32)
    }

    /// Lines of codes in the keys (or the values) of a page.
    pub fn lines(self) -> usize {
        PAGE / 2 * self.width()
    }

    /// Bytes of its part of a page: a multiple of 64.
    pub fn bytes(self) -> usize {
        self.bytes_of_scales() + 2 * (self.bytes_of_ratios() + self.bytes_of_codes())
    }

    fn bytes_of_scales(self) -> usize {
        if self.kv_type == KvType::F32 { 0 } else { size_of::<Scales>() }
    }

    fn bytes_of_ratios(self) -> usize {
        if self.kv_type == KvType::Q8_0 { self.groups() * size_of::<Ratios>() } else { 0 }
    }

    fn bytes_of_codes(self) -> usize {
        match self.kv_type {
            KvType::I16 => self.lines() * size_of::<Line>(),
            KvType::Q8_0 => self.lines() * size_of::<ByteLine>(),
            KvType::F32 => PAGE * self.head_dim * size_of::<f32>(),
        }
    }
}

impl<'a> Head<'a> {
    /// Reads `bytes`: [`HeadShape::bytes`] of them, on a multiple of 64.
    #[inline]
    pub fn new(shape: HeadShape, bytes: &'a [u8]) -> Self {
        let (scales, both) = bytes.split_at(shape.bytes_of_scales());
        let (keys, values) = both.split_at(both.len() / 2);
        let (key_ratios, keys) = keys.split_at(shape.bytes_of_ratios());
        let (value_ratios, values) = values.split_at(shape.bytes_of_ratios());
        match shape.kv_type {
            KvType::I16 => Head::I16(Codes {
                keys: cast_slice(keys),
                values: cast_slice(values),
                scales: from_bytes(scales),
            }),
            KvType::Q8_0 => Head::Q8_0 {
                codes: Codes {
                    keys: cast_slice(keys),
                    values: cast_slice(values),
                    scales: from_bytes(scales),
                },
                key_ratios: cast_slice(key_ratios),
                value_ratios: cast_slice(value_ratios),
            },
            KvType::F32 => Head::F32 { keys: cast_slice(keys), values: cast_slice(values) },
        }
    }
}

impl<'a> HeadMut<'a> {
    /// As [`Head::new`].
    pub fn new(shape: HeadShape, bytes: &'a mut [u8]) -> Self {
        let (scales, both) = bytes.split_at_mut(shape.bytes_of_scales());
        let (keys, values) = both.split_at_mut(both.len() / 2);
        let (key_ratios, keys) = keys.split_at_mut(shape.bytes_of_ratios());
        let (value_ratios, values) = values.split_at_mut(shape.bytes_of_ratios());
        match shape.kv_type {
            KvType::I16 => HeadMut::I16 {
                keys: cast_slice_mut(keys),
                values: cast_slice_mut(values),
                scales: from_bytes_mut(scales),
            },
            KvType::Q8_0 => HeadMut::Q8_0 {
                keys: cast_slice_mut(keys),
                values: cast_slice_mut(values),
                key_ratios: cast_slice_mut(key_ratios),
                value_ratios: cast_slice_mut(value_ratios),
                scales: from_bytes_mut(scales),
            },
            KvType::F32 => {
                HeadMut::F32 { keys: cast_slice_mut(keys), values: cast_slice_mut(values) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_cannot_leave_i32() {
        for head_dim in [1, 64, 128, 129, 256, 8192, 1 << 20] {
            let most = i64::from(max_code(head_dim));
            assert!(most > 0 && most * most * head_dim as i64 <= i64::from(i32::MAX));
        }
        assert_eq!((max_code(128), max_code(256)), (4095, 2896));
    }

    #[test]
    fn places_are_the_layout_of_the_diagram() {
        let width = 3;
        let mut seen = vec![[0; 2]; 32 * width * 32];
        for slot in 0..PAGE {
            for dimension in 0..16 * width {
                let (line, at) = place_of_key(slot, dimension);
                assert_eq!(line * 32 + at, (dimension / 2 * PAGE + slot) * 2 + dimension % 2);
                seen[line * 32 + at][0] += 1;
                let (line, at) = place_of_value(width, slot, dimension);
                assert_eq!(line * 32 + at, (slot / 2 * 16 * width + dimension) * 2 + slot % 2);
                seen[line * 32 + at][1] += 1;
            }
        }
        assert!(seen.iter().all(|&n| n == [1, 1]));
    }
}
