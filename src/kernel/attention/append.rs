//! Appends keys and values of new positions to their pages.

use std::ops::Range;

use super::fixed::{quantize, quantize_groups};
use super::prepare::Prepare;
use crate::kv_cache::{HeadMut, PAGE, max_code, place_of_key, place_of_value};
use crate::simd::{Simd, Task};

/// The rows of a batch that lie in one page, for one KV head.
pub(super) struct Append<'a, 'p> {
    pub keys: Prepare<'a>,
    pub values: Prepare<'a>,
    /// `[batch, kv_dim]`, not prepared.
    pub k: &'a [f32],
    /// The same.
    pub v: &'a [f32],
    pub kv_dim: usize,
    pub head_dim: usize,
    pub kv_head: usize,
    pub rows: Range<usize>,
    /// Where the first of the rows goes.
    pub slot: usize,
    pub head: &'a mut HeadMut<'p>,
}

impl Task for Append<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Append { keys, values, k, v, kv_dim, head_dim, kv_head, rows, slot, head } = self;
        // Padded to what `quantize` takes; the padding stays 0.
        let padded = head_dim.next_multiple_of(32);
        let (mut key, mut value) = (vec![0.0; padded], vec![0.0; padded]);
        let mut codes = vec![0; padded];
        for (slot, row) in (slot..PAGE).zip(rows) {
            let span = row * kv_dim + kv_head * head_dim..row * kv_dim + (kv_head + 1) * head_dim;
            key[..head_dim].copy_from_slice(&k[span.clone()]);
            keys.head(simd, row, &mut key[..head_dim]);
            value[..head_dim].copy_from_slice(&v[span]);
            values.head(simd, row, &mut value[..head_dim]);
            put(simd, head, head_dim, slot, (&key, &value), &mut codes);
        }
    }
}

/// Writes one position.
#[inline(always)]
fn put<S: Simd>(
    simd: S,
    head: &mut HeadMut<'_>,
    head_dim: usize,
    slot: usize,
    (key, value): (&[f32], &[f32]),
    codes: &mut [i16],
) {
    let (most, width) = (max_code(head_dim), head_dim.div_ceil(16));
    match head {
        HeadMut::I16 { keys, values, scales } => {
            let key_scale = quantize(simd, key, most, codes);
            for (d, &code) in codes[..head_dim].iter().enumerate() {
                let (line, at) = place_of_key(slot, d);
                keys[line][at] = code;
            }
            let value_scale = quantize(simd, value, most, codes);
            for (d, &code) in codes[..head_dim].iter().enumerate() {
                let (line, at) = place_of_value(width, slot, d);
                values[line][at] = code;
            }
            (scales[0][slot], scales[1][slot]) = poisoned(key_scale, value_scale);
        }
        HeadMut::Q8_0 { keys, values, key_ratios, value_ratios, scales } => {
            let key_scale = quantize_groups(simd, key, most, codes, |group, ratio| {
                key_ratios[group][slot] = ratio;
            });
            for (d, &code) in codes[..head_dim].iter().enumerate() {
                let (line, at) = place_of_key(slot, d);
                keys[line][at] = code as i8;
            }
            let value_scale = quantize_groups(simd, value, most, codes, |group, ratio| {
                value_ratios[group][slot] = ratio;
            });
            for (d, &code) in codes[..head_dim].iter().enumerate() {
                let (line, at) = place_of_value(width, slot, d);
                values[line][at] = code as i8;
            }
            (scales[0][slot], scales[1][slot]) = poisoned(key_scale, value_scale);
        }
        HeadMut::F32 { keys, values } => {
            keys[slot * head_dim..(slot + 1) * head_dim].copy_from_slice(&key[..head_dim]);
            values[slot * head_dim..(slot + 1) * head_dim].copy_from_slice(&value[..head_dim]);
        }
    }
}

/// A value that is not finite makes the score NaN, so that rows which do not see
/// it never meet it, and rows which do become NaN.
fn poisoned(key_scale: f32, value_scale: f32) -> (f32, f32) {
    if value_scale.is_nan() { (f32::NAN, 1.0) } else { (key_scale, value_scale) }
}
