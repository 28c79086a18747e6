//! The float formats: F32, F16, BF16, little-endian, no blocks; and the quantized formats that
//! are multiplied as floats.
//!
//! ```text
//!        15 14    10 9         0
//! F16   │ s │ e (5) │  m (10)   │   e = 0: ±m·2^-24      e = 31: ∞ or NaN
//!                                   else:  ±(1 + m/1024)·2^(e-15)
//!        15 14       7 6       0
//! BF16  │ s │  e (8)  │  m (7) │    the upper 16 bits of an F32
//! ```
//!
//! The row functions are branch-free and inlined, so that each instruction set's
//! kernel gets them vectorized. (`half::f16::to_f32` asks the CPU for F16C at
//! every value, which no compiler vectorizes.)

use super::{Format, nvfp4, q1_0, q2_0};

/// Converts the weights of a row of a format that is multiplied as floats.
///
/// # Panics
///
/// If `format` is another, or `bytes` does not hold exactly `out.len()` values.
pub fn to_f32(format: Format, bytes: &[u8], out: &mut [f32]) {
    assert_eq!(format.row_bytes(out.len()), Some(bytes.len()), "bytes of the {format} row");
    match format {
        Format::F32 => f32_row(bytes, out),
        Format::F16 => f16_row(bytes, out),
        Format::BF16 => bf16_row(bytes, out),
        Format::NVFP4 => blocks(bytes, out, nvfp4::decode),
        Format::Q1_0 => blocks(bytes, out, q1_0::decode),
        Format::Q2_0 => blocks(bytes, out, q2_0::decode),
        _ => panic!("{format} is no float format"),
    }
}

#[inline(always)]
fn blocks<const N: usize, const LEN: usize>(
    bytes: &[u8],
    out: &mut [f32],
    decode: impl Fn(&[u8; N], &mut [f32; LEN]),
) {
    for (block, out) in bytes.as_chunks().0.iter().zip(out.as_chunks_mut().0) {
        decode(block, out);
    }
}

/// Rewrites blocks of a quantized format as F32, as many as both hold.
#[inline(always)]
pub(crate) fn rewrite(format: Format, bytes: &[u8], out: &mut [u8]) {
    match format {
        Format::NVFP4 => rewrite_blocks(bytes, out, nvfp4::decode),
        Format::Q1_0 => rewrite_blocks(bytes, out, q1_0::decode),
        Format::Q2_0 => rewrite_blocks(bytes, out, q2_0::decode),
        _ => debug_assert!(false, "{format} is read as it is"),
    }
}

#[inline(always)]
fn rewrite_blocks<const N: usize, const LEN: usize>(
    bytes: &[u8],
    out: &mut [u8],
    decode: impl Fn(&[u8; N], &mut [f32; LEN]),
) {
    let mut values = [0.0; LEN];
    for (block, out) in bytes.as_chunks().0.iter().zip(out.chunks_exact_mut(4 * LEN)) {
        decode(block, &mut values);
        for (value, out) in values.iter().zip(out.as_chunks_mut().0) {
            *out = value.to_le_bytes();
        }
    }
}

/// Reads F32 values into `out`, as many as both hold.
#[inline(always)]
pub fn f32_row(bytes: &[u8], out: &mut [f32]) {
    for (value, out) in bytes.as_chunks().0.iter().zip(out) {
        *out = f32::from_le_bytes(*value);
    }
}

/// Converts F16 values into `out`, as many as both hold.
#[inline(always)]
pub fn f16_row(bytes: &[u8], out: &mut [f32]) {
    for (value, out) in bytes.as_chunks().0.iter().zip(out) {
        *out = f16_to_f32(u16::from_le_bytes(*value));
    }
}

/// Converts BF16 values into `out`, as many as both hold.
#[inline(always)]
pub fn bf16_row(bytes: &[u8], out: &mut [f32]) {
    for (value, out) in bytes.as_chunks().0.iter().zip(out) {
        *out = f32::from_bits(u32::from(u16::from_le_bytes(*value)) << 16);
    }
}

/// The value of an F16 bit pattern, exactly.
#[inline(always)]
fn f16_to_f32(bits: u16) -> f32 {
    // Moved into place, exponent and mantissa read as a value 2^112 too small,
    // subnormals included: the biases are 15 and 127.
    const REBIAS: f32 = f32::from_bits((127 + 112) << 23);
    const EXPONENT: u32 = 0x7f80_0000;
    let bits = u32::from(bits);
    let finite = (f32::from_bits((bits & 0x7fff) << 13) * REBIAS).to_bits();
    // Exponent 31 became 2^16: only infinity and NaN get there.
    let special = if finite >= (127 + 16) << 23 { EXPONENT } else { 0 };
    f32::from_bits(finite | special | (bits & 0x8000) << 16)
}
