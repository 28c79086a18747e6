//! A page: keys and values of [`PAGE`] positions of one layer.
//!
//! Per KV head, keys and values lie one behind the other, keys after the rotary
//! embedding. Integer codes lie in pairs along the axis that attention sums
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

use super::{KvShape, KvType};
use crate::error::{Error, Result};

/// Positions per page. Attention works page by page, so this is also the unit
/// in which its sums are formed: changing it changes the last bits of results.
pub(crate) const PAGE: usize = 64;

/// The largest code of keys, values and queries for heads of `head_dim`:
/// 4095, or less where `head_dim · max_code²` would leave i32 (from 129 on).
pub(crate) fn max_code(head_dim: usize) -> i16 {
    let most = (i32::MAX as usize / head_dim.max(1)).isqrt();
    most.min(4095) as i16
}

/// 32 codes in one cache line.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C, align(64))]
pub(crate) struct Line(pub [i16; 32]);

/// 32 codes in half a cache line.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C, align(32))]
pub(crate) struct ByteLine(pub [i8; 32]);

/// The scales of one KV head.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scales {
    pub keys: [f32; PAGE],
    pub values: [f32; PAGE],
}

impl Default for Scales {
    fn default() -> Self {
        Scales { keys: [0.0; PAGE], values: [0.0; PAGE] }
    }
}

/// Where the code of a key lies: line and place in it.
pub(crate) fn place_of_key(slot: usize, dimension: usize) -> (usize, usize) {
    (dimension / 2 * (PAGE / 16) + slot / 16, slot % 16 * 2 + dimension % 2)
}

/// Where the code of a value lies: line and place in it.
pub(crate) fn place_of_value(width: usize, slot: usize, dimension: usize) -> (usize, usize) {
    (slot / 2 * width + dimension / 16, dimension % 16 * 2 + slot % 2)
}

/// Keys and values of [`PAGE`] positions.
#[derive(Debug)]
pub(crate) enum Page {
    I16 {
        /// `[kv_heads, 2, 32 · width]`
        codes: Vec<Line>,
        /// `[kv_heads]`
        scales: Vec<Scales>,
    },
    Q8_0 {
        /// `[kv_heads, 2, 32 · width]`
        codes: Vec<ByteLine>,
        /// `[kv_heads, 2, head_dim / 32 rounded up]`
        ratios: Vec<[i16; PAGE]>,
        /// `[kv_heads]`
        scales: Vec<Scales>,
    },
    /// `[kv_heads, 2, PAGE, head_dim]`
    F32(Vec<f32>),
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
    Q8_0 {
        codes: Codes<'a, ByteLine>,
        key_ratios: &'a [[i16; PAGE]],
        value_ratios: &'a [[i16; PAGE]],
    },
    F32 {
        keys: &'a [f32],
        values: &'a [f32],
    },
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
        key_ratios: &'a mut [[i16; PAGE]],
        value_ratios: &'a mut [[i16; PAGE]],
        scales: &'a mut Scales,
    },
    F32 {
        keys: &'a mut [f32],
        values: &'a mut [f32],
    },
}

/// Half `half` of part `index` of `all`, whose halves have `len` elements.
fn half<T>(all: &[T], index: usize, half: usize, len: usize) -> &[T] {
    &all[(2 * index + half) * len..][..len]
}

impl Page {
    /// A page of zeros.
    pub fn new(shape: &KvShape) -> Result<Self> {
        let (heads, len) = (shape.kv_heads, 2 * shape.kv_heads * shape.lines());
        Ok(match shape.kv_type {
            KvType::I16 => Page::I16 { codes: zeroed(len)?, scales: zeroed(heads)? },
            KvType::Q8_0 => Page::Q8_0 {
                codes: zeroed(len)?,
                ratios: zeroed_with(2 * heads * shape.groups(), [0; PAGE])?,
                scales: zeroed(heads)?,
            },
            KvType::F32 => Page::F32(zeroed(2 * heads * PAGE * shape.head_dim)?),
        })
    }

    /// A second page with the same content.
    pub fn copied(&self) -> Result<Self> {
        Ok(match self {
            Page::I16 { codes, scales } => {
                Page::I16 { codes: copied(codes)?, scales: copied(scales)? }
            }
            Page::Q8_0 { codes, ratios, scales } => Page::Q8_0 {
                codes: copied(codes)?,
                ratios: copied(ratios)?,
                scales: copied(scales)?,
            },
            Page::F32(rows) => Page::F32(copied(rows)?),
        })
    }

    /// Bytes of one page.
    pub fn bytes(shape: &KvShape) -> usize {
        let (heads, lines) = (shape.kv_heads, 2 * shape.lines());
        let scales = size_of::<Scales>();
        match shape.kv_type {
            KvType::I16 => heads * (lines * size_of::<Line>() + scales),
            KvType::Q8_0 => {
                let ratios = 2 * shape.groups() * size_of::<[i16; PAGE]>();
                heads * (lines * size_of::<ByteLine>() + ratios + scales)
            }
            KvType::F32 => heads * 2 * PAGE * shape.head_dim * size_of::<f32>(),
        }
    }

    /// KV head `head`'s part.
    pub fn head(&self, shape: &KvShape, head: usize) -> Head<'_> {
        let lines = shape.lines();
        match self {
            Page::I16 { codes, scales } => Head::I16(Codes {
                keys: half(codes, head, 0, lines),
                values: half(codes, head, 1, lines),
                scales: &scales[head],
            }),
            Page::Q8_0 { codes, ratios, scales } => Head::Q8_0 {
                codes: Codes {
                    keys: half(codes, head, 0, lines),
                    values: half(codes, head, 1, lines),
                    scales: &scales[head],
                },
                key_ratios: half(ratios, head, 0, shape.groups()),
                value_ratios: half(ratios, head, 1, shape.groups()),
            },
            Page::F32(rows) => Head::F32 {
                keys: half(rows, head, 0, PAGE * shape.head_dim),
                values: half(rows, head, 1, PAGE * shape.head_dim),
            },
        }
    }

    /// Every KV head's part, to be written.
    pub fn heads_mut(&mut self, shape: &KvShape) -> Vec<HeadMut<'_>> {
        let lines = shape.lines();
        match self {
            Page::I16 { codes, scales } => {
                let codes = codes.chunks_exact_mut(2 * lines).map(|both| both.split_at_mut(lines));
                let heads = codes.zip(scales);
                heads
                    .map(|((keys, values), scales)| HeadMut::I16 { keys, values, scales })
                    .collect()
            }
            Page::Q8_0 { codes, ratios, scales } => {
                let groups = shape.groups();
                let codes = codes.chunks_exact_mut(2 * lines).map(|both| both.split_at_mut(lines));
                let ratios = ratios.chunks_exact_mut(2 * groups).map(|r| r.split_at_mut(groups));
                let heads = codes.zip(ratios).zip(scales);
                heads
                    .map(|(((keys, values), (key_ratios, value_ratios)), scales)| HeadMut::Q8_0 {
                        keys,
                        values,
                        key_ratios,
                        value_ratios,
                        scales,
                    })
                    .collect()
            }
            Page::F32(rows) => {
                let len = PAGE * shape.head_dim;
                let both = rows.chunks_exact_mut(2 * len).map(|both| both.split_at_mut(len));
                both.map(|(keys, values)| HeadMut::F32 { keys, values }).collect()
            }
        }
    }
}

fn no_memory(bytes: usize) -> Error {
    Error::Limit { what: "bytes for the KV cache", needed: bytes as u64, allowed: 0 }
}

fn zeroed<T: Clone + Default>(len: usize) -> Result<Vec<T>> {
    zeroed_with(len, T::default())
}

fn zeroed_with<T: Clone>(len: usize, zero: T) -> Result<Vec<T>> {
    let mut all = Vec::new();
    all.try_reserve_exact(len).map_err(|_| no_memory(len.saturating_mul(size_of::<T>())))?;
    all.resize(len, zero);
    Ok(all)
}

fn copied<T: Clone>(all: &[T]) -> Result<Vec<T>> {
    let mut copy = Vec::new();
    copy.try_reserve_exact(all.len()).map_err(|_| no_memory(size_of_val(all)))?;
    copy.extend_from_slice(all);
    Ok(copy)
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
