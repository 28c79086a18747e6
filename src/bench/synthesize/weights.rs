//! Random bytes that are plausible weights: mean 0, standard deviation
//! 1/√columns, so that a matrix keeps the size of what it multiplies and the
//! logits of a forward pass neither vanish nor explode.
//!
//! Every byte of a block is random, except its f16 scales. With uniform codes
//! `q` and sub-scales `s` the standard deviation at `d = 1` is known:
//!
//! ```text
//! w = d · (q − c)                 Q4_0 Q5_0 Q8_0 IQ4_NL   √E[(q−c)²]
//! w = d · q + m,  m = −E[q]·d     Q4_1 Q5_1               √Var(q)
//! w = d · s · (q − c)             Q3_K Q6_K IQ4_XS        √(E[s²] · E[(q−c)²])
//! w = d · s · q − dmin · t        Q2_K Q4_K Q5_K          √(E[s²]·Var(q) + 2·E[q]²·Var(s))
//!     dmin = E[q]·d, t distributed like s
//! ```
//!
//! `d` is (standard deviation wanted) / (that figure), with a random sign: codes
//! are not centred (−8 to 7), and a matrix with a mean would turn any input into
//! nearly the same output. MXFP4's `d` is the nearest power of two; its codes are centred.
//! Blocks of formats that no mix has are random bytes.
//!
//! Random numbers are splitmix64 of a counter: byte `n` of a tensor is the same
//! whoever computes it, so threads can share the work.

use crate::quant::Format;
use half::f16;
use rayon::prelude::*;

/// Splitmix64's state as a function of a counter.
fn random(seed: u64, counter: u64) -> u64 {
    let mut z = seed.wrapping_add(counter.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The seed of one tensor: the file's seed and the name, hashed (FNV-1a).
pub fn seed_of(seed: u64, name: &str) -> u64 {
    let hash = name.bytes().fold(0xCBF2_9CE4_8422_2325 ^ seed, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
    });
    random(hash, 0)
}

/// Where the scales of a block are, and its standard deviation at `d = 1`.
struct Layout {
    d: usize,
    /// The second scale, and what it is when `d` is 1.
    min: Option<(usize, f64)>,
    deviation: f64,
}

/// E[q²] and E[q] of a uniform integer `low..=high`.
fn moments(low: i32, high: i32) -> (f64, f64) {
    let n = f64::from(high - low + 1);
    let square = (low..=high).map(|q| f64::from(q * q)).sum::<f64>() / n;
    (square, f64::from(low + high) / 2.0)
}

/// E[v²] of IQ4's 16 values.
fn iq4_square() -> f64 {
    const VALUES: [i32; 16] =
        [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];
    VALUES.iter().map(|v| f64::from(v * v)).sum::<f64>() / 16.0
}

fn layout(format: Format) -> Option<Layout> {
    let centred = |d, square: f64| Layout { d, min: None, deviation: square.sqrt() };
    let with_min = |high| {
        let (square, mean) = moments(0, high);
        Layout { d: 0, min: Some((2, -mean)), deviation: (square - mean * mean).sqrt() }
    };
    // Codes 0..=high, sub-scales and minimums 0..=top.
    let with_sub_min = |d, high, top| {
        let ((square, mean), (s_square, s_mean)) = (moments(0, high), moments(0, top));
        let codes = s_square * (square - mean * mean);
        let offsets = 2.0 * mean * mean * (s_square - s_mean * s_mean);
        Layout { d, min: Some((d + 2, mean)), deviation: (codes + offsets).sqrt() }
    };
    Some(match format {
        Format::Q4_0 => centred(0, moments(-8, 7).0),
        Format::Q5_0 => centred(0, moments(-16, 15).0),
        Format::Q8_0 => centred(0, moments(-128, 127).0),
        Format::IQ4_NL => centred(0, iq4_square()),
        Format::Q4_1 => with_min(15),
        Format::Q5_1 => with_min(31),
        Format::Q3_K => centred(108, moments(-32, 31).0 * moments(-4, 3).0),
        Format::Q6_K => centred(208, moments(-128, 127).0 * moments(-32, 31).0),
        Format::IQ4_XS => centred(0, moments(-32, 31).0 * iq4_square()),
        Format::Q2_K => with_sub_min(80, 3, 15),
        Format::Q4_K => with_sub_min(0, 15, 63),
        Format::Q5_K => with_sub_min(0, 31, 63),
        _ => return None,
    })
}

/// The blocks that are filled at a time: a multiple of 8, so that every share
/// of the work begins at a whole random word.
pub const STEP: usize = 1 << 10;

/// Fills `out` with the blocks of a tensor from block `first` on, a multiple of
/// [`STEP`]. The weights get the standard deviation `deviation`.
pub fn fill(format: Format, seed: u64, deviation: f64, first: usize, out: &mut [u8]) {
    let size = format.block_bytes();
    out.par_chunks_mut(STEP * size).enumerate().for_each(|(share, out)| {
        let first = (first + share * STEP) as u64;
        random_bytes(seed, first * size as u64 / 8, out);
        match layout(format) {
            Some(layout) => {
                let seed = !seed; // other numbers than the codes
                for (block, bytes) in (first..).zip(out.chunks_exact_mut(size)) {
                    set_scales(&layout, deviation, random(seed, block), bytes);
                }
            }
            None if format == Format::MXFP4 => {
                out.chunks_exact_mut(size).for_each(|block| block[0] = exponent(deviation));
            }
            None => floats(format, deviation, out),
        }
    });
}

fn random_bytes(seed: u64, first_word: u64, out: &mut [u8]) {
    let (words, rest) = out.as_chunks_mut::<8>();
    let after = first_word + words.len() as u64;
    for (counter, word) in (first_word..).zip(words) {
        *word = random(seed, counter).to_le_bytes();
    }
    let last = random(seed, after).to_le_bytes();
    rest.copy_from_slice(&last[..rest.len()]);
}

/// MXFP4's scale for weights of the standard deviation `deviation`: 2^(e − 128) times that
/// of its codes.
fn exponent(deviation: f64) -> u8 {
    const SIZES: [u32; 8] = [0, 1, 2, 3, 4, 6, 8, 12];
    let square = SIZES.iter().map(|size| f64::from(size * size)).sum::<f64>() / 8.0;
    ((deviation / square.sqrt()).log2() + 128.0).round() as u8
}

fn set_scales(layout: &Layout, deviation: f64, random: u64, block: &mut [u8]) {
    let sign = if random & 1 == 0 { 1.0 } else { -1.0 };
    let d = f16::from_f64(sign * deviation / layout.deviation);
    block[layout.d..layout.d + 2].copy_from_slice(&d.to_le_bytes());
    if let Some((at, ratio)) = layout.min {
        let min = f16::from_f64(d.to_f64() * ratio);
        block[at..at + 2].copy_from_slice(&min.to_le_bytes());
    }
}

/// Turns random bytes into floats that are uniform in ±√3 · `deviation`.
fn floats(format: Format, deviation: f64, out: &mut [u8]) {
    let unit = (deviation * 3f64.sqrt()) as f32;
    if format == Format::F32 {
        for bytes in out.as_chunks_mut::<4>().0 {
            let random = i32::from_le_bytes(*bytes) as f32 / 2f32.powi(31);
            *bytes = (random * unit).to_le_bytes();
        }
        return;
    }
    if !matches!(format, Format::F16 | Format::BF16) {
        return;
    }
    for bytes in out.as_chunks_mut::<2>().0 {
        let value = f32::from(i16::from_le_bytes(*bytes)) / 2f32.powi(15) * unit;
        *bytes = match format {
            Format::F16 => f16::from_f32(value).to_le_bytes(),
            _ => half::bf16::from_f32(value).to_le_bytes(),
        };
    }
}
