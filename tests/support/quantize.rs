//! ggml's reference quantizers (`quantize_row_*_ref`, MIT) of the formats that have one scale
//! per 32 weights, to the bit.

use half::{bf16, f16};
use tramontane::Format;

/// Weights in a block.
const BLOCK: usize = 32;

/// `values` in `format`.
pub fn quantize(format: Format, values: &[f32]) -> Vec<u8> {
    let blocks = values.as_chunks::<BLOCK>().0;
    let each = |block: fn(&[f32; BLOCK]) -> Vec<u8>| blocks.iter().flat_map(block).collect();
    match format {
        Format::F32 => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Format::F16 => values.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect(),
        Format::BF16 => values.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()).collect(),
        Format::Q4_0 => each(|x| symmetric(x, 4)),
        Format::Q4_1 => each(|x| with_minimum(x, 4)),
        Format::Q5_0 => each(|x| symmetric(x, 5)),
        Format::Q5_1 => each(|x| with_minimum(x, 5)),
        Format::Q8_0 => each(q8_0),
        other => panic!("no quantizer for {other}"),
    }
}

fn inverse(d: f32) -> f32 {
    if d == 0.0 { 0.0 } else { 1.0 / d }
}

fn half(x: f32) -> [u8; 2] {
    f16::from_f32(x).to_le_bytes()
}

fn q8_0(x: &[f32; BLOCK]) -> Vec<u8> {
    let d = x.iter().fold(0f32, |max, x| max.max(x.abs())) / 127.0;
    let codes = x.iter().map(|x| (x * inverse(d)).round() as i8 as u8);
    half(d).into_iter().chain(codes).collect()
}

/// Q4_0 and Q5_0: the weight farthest from zero gets the lowest code.
fn symmetric(x: &[f32; BLOCK], bits: u32) -> Vec<u8> {
    let zero = 1 << (bits - 1);
    let farthest = x.iter().fold(0f32, |max, &x| if x.abs() > max.abs() { x } else { max });
    let d = farthest / -(zero as f32);
    let code =
        |x: f32| ((x * inverse(d) + (zero as f32 + 0.5)) as i8 as u8).min((2 * zero - 1) as u8);
    half(d).into_iter().chain(pack(&x.map(code), bits)).collect()
}

/// Q4_1 and Q5_1: codes count from the smallest weight.
fn with_minimum(x: &[f32; BLOCK], bits: u32) -> Vec<u8> {
    let min = x.iter().copied().fold(f32::INFINITY, f32::min);
    let max = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let most = (1 << bits) - 1;
    let d = (max - min) / most as f32;
    let code = |x: f32| (((x - min) * inverse(d) + 0.5) as u8).min(most);
    half(d).into_iter().chain(half(min)).chain(pack(&x.map(code), bits)).collect()
}

/// The fifth bits, if there are any, then the low four: weight `k` with `k + 16`.
fn pack(codes: &[u8; BLOCK], bits: u32) -> Vec<u8> {
    let fifth = codes.iter().rev().fold(0u32, |all, code| all << 1 | u32::from(code >> 4));
    let fifth = fifth.to_le_bytes().into_iter().take(if bits == 5 { 4 } else { 0 });
    let (low, high) = codes.split_at(BLOCK / 2);
    fifth.chain(low.iter().zip(high).map(|(low, high)| low & 15 | (high & 15) << 4)).collect()
}
