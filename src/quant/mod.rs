//! The storage formats of GGUF tensors: one file per format.
//!
//! A tensor row is a sequence of blocks of [`Format::block_len`] weights in
//! [`Format::block_bytes`] bytes. Every quantized format is described by the
//! same four things, which is what lets one kernel serve them all:
//!
//! ```text
//! weight[k] = d · scale[k / 16] · q[k]  −  dmin · min[k / 16]
//!             └ f32 per block   └ i8       └ f32 per block
//!                 └ i16 per 16 weights         └ i16 per 16 weights
//! ```
//!
//! Formats whose sub-blocks are 32 wide repeat their scale; formats without
//! sub-blocks have `scale = 1`; formats without a minimum have `dmin = 0`. Fractions
//! become integers, and `d` takes the power of two: `(2s + 1) / 2 · d` of a 4-bit scale s is
//! `(2s + 1) · d / 2`.
//!
//! | formats | products |
//! |---|---|
//! | Q4_0 to Q8_0, IQ4_NL, MXFP4 | kernels for blocks of 32, on int8 activations |
//! | Q2_K to Q6_K, IQ4_XS | kernels for super-blocks of 256, on int8 activations |
//! | IQ1_S to IQ3_S, TQ1_0, TQ2_0 | rewritten as [`Wide`] super-blocks first |
//! | F32, F16, BF16; NVFP4, Q1_0, Q2_0, whose blocks are none of these | as f32, on f32 activations |
//!
//! The layouts are those of ggml (`ggml-common.h`, MIT); the arithmetic of
//! `dequantize` is bit-exact with its C decoder: f32, multiply then subtract,
//! never fused.

pub mod activation;
pub(crate) mod aligned;
mod dispatch;
pub mod float;
mod grids;
mod iq1_m;
mod iq1_s;
mod iq2_s;
mod iq2_xs;
mod iq2_xxs;
mod iq3_s;
mod iq3_xxs;
mod iq4_nl;
mod iq4_xs;
mod mxfp4;
mod nvfp4;
mod q1_0;
mod q2_0;
mod q2_k;
mod q3_k;
mod q4_0;
mod q4_1;
mod q4_k;
mod q5_0;
mod q5_1;
mod q5_k;
mod q6_k;
mod q8_0;
mod tq1_0;
mod tq2_0;
pub(crate) mod wide;

#[cfg(target_arch = "x86_64")]
pub(crate) use iq4_nl::VALUES as IQ4_VALUES;
#[cfg(target_arch = "x86_64")]
pub(crate) use iq4_xs::scale as iq4_xs_scale;
#[cfg(target_arch = "x86_64")]
pub(crate) use mxfp4::VALUES as MXFP4_VALUES;
#[cfg(target_arch = "x86_64")]
pub(crate) use q3_k::all_scales as q3_k_scales;
#[cfg(target_arch = "aarch64")]
pub(crate) use q4_k::unpack_scales as q4_k_scales;

pub(crate) use dispatch::{with_block_format, with_kernel_format, with_rewritten_format};

pub use activation::{ActivationRow, ActivationRowMut, ActivationRows, quantize_block};
pub use iq1_m::IQ1_M;
pub use iq1_s::IQ1_S;
pub use iq2_s::IQ2_S;
pub use iq2_xs::IQ2_XS;
pub use iq2_xxs::IQ2_XXS;
pub use iq3_s::IQ3_S;
pub use iq3_xxs::IQ3_XXS;
pub use iq4_nl::IQ4_NL;
pub use iq4_xs::IQ4_XS;
pub use mxfp4::MXFP4;
pub use q2_k::Q2_K;
pub use q3_k::Q3_K;
pub use q4_0::Q4_0;
pub use q4_1::Q4_1;
pub use q4_k::Q4_K;
pub use q5_0::Q5_0;
pub use q5_1::Q5_1;
pub use q5_k::Q5_K;
pub use q6_k::Q6_K;
pub use q8_0::Q8_0;
pub use tq1_0::TQ1_0;
pub use tq2_0::TQ2_0;
pub use wide::Wide;

use crate::error::Error;

/// How a tensor's values are stored. Named as ggml names them.
#[allow(non_camel_case_types, reason = "ggml's own names")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Format {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of an IEEE single.
    BF16,
    /// 4-bit, one scale per 32.
    Q4_0,
    /// 4-bit, scale and minimum per 32.
    Q4_1,
    /// 5-bit, one scale per 32.
    Q5_0,
    /// 5-bit, scale and minimum per 32.
    Q5_1,
    /// 8-bit, one scale per 32.
    Q8_0,
    /// 2-bit super-blocks of 256, 4-bit scales and minimums per 16.
    Q2_K,
    /// 3-bit super-blocks of 256, 6-bit scales per 16.
    Q3_K,
    /// 4-bit super-blocks of 256, 6-bit scales and minimums per 32.
    Q4_K,
    /// 5-bit super-blocks of 256, 6-bit scales and minimums per 32.
    Q5_K,
    /// 6-bit super-blocks of 256, 8-bit scales per 16.
    Q6_K,
    /// 4-bit non-linear, one scale per 32.
    IQ4_NL,
    /// 4-bit non-linear super-blocks of 256, 6-bit scales per 32.
    IQ4_XS,
    /// 4-bit floats, a power of two per 32.
    MXFP4,
    /// 4-bit floats, an 8-bit float per 16.
    NVFP4,
    /// 1-bit super-blocks of 256, eight weights from a grid, 3-bit scales per 32.
    IQ1_S,
    /// 1-bit super-blocks of 256, eight weights from a grid, 3-bit scales per 16.
    IQ1_M,
    /// 2-bit super-blocks of 256, eight weights from a small grid, 4-bit scales per 32.
    IQ2_XXS,
    /// 2-bit super-blocks of 256, eight weights from a grid, 4-bit scales per 16.
    IQ2_XS,
    /// 2-bit super-blocks of 256, eight weights from a large grid, 4-bit scales per 16.
    IQ2_S,
    /// 3-bit super-blocks of 256, four weights from a small grid, 4-bit scales per 32.
    IQ3_XXS,
    /// 3-bit super-blocks of 256, four weights from a grid, 4-bit scales per 32.
    IQ3_S,
    /// Ternary super-blocks of 256, five weights a byte.
    TQ1_0,
    /// Ternary super-blocks of 256, four weights a byte.
    TQ2_0,
    /// Signs, one scale per 128.
    Q1_0,
    /// 2-bit, one scale per 64.
    Q2_0,
}

impl Format {
    /// Every format, in the order of the enum.
    pub const ALL: [Format; 28] = [
        Format::F32,
        Format::F16,
        Format::BF16,
        Format::Q4_0,
        Format::Q4_1,
        Format::Q5_0,
        Format::Q5_1,
        Format::Q8_0,
        Format::Q2_K,
        Format::Q3_K,
        Format::Q4_K,
        Format::Q5_K,
        Format::Q6_K,
        Format::IQ4_NL,
        Format::IQ4_XS,
        Format::MXFP4,
        Format::NVFP4,
        Format::IQ1_S,
        Format::IQ1_M,
        Format::IQ2_XXS,
        Format::IQ2_XS,
        Format::IQ2_S,
        Format::IQ3_XXS,
        Format::IQ3_S,
        Format::TQ1_0,
        Format::TQ2_0,
        Format::Q1_0,
        Format::Q2_0,
    ];

    /// (ggml type id, weights per block, bytes per block, name): the one table.
    const fn row(self) -> (u32, usize, usize, &'static str) {
        match self {
            Format::F32 => (0, 1, 4, "F32"),
            Format::F16 => (1, 1, 2, "F16"),
            Format::BF16 => (30, 1, 2, "BF16"),
            Format::Q4_0 => (2, 32, 18, "Q4_0"),
            Format::Q4_1 => (3, 32, 20, "Q4_1"),
            Format::Q5_0 => (6, 32, 22, "Q5_0"),
            Format::Q5_1 => (7, 32, 24, "Q5_1"),
            Format::Q8_0 => (8, 32, 34, "Q8_0"),
            Format::Q2_K => (10, 256, 84, "Q2_K"),
            Format::Q3_K => (11, 256, 110, "Q3_K"),
            Format::Q4_K => (12, 256, 144, "Q4_K"),
            Format::Q5_K => (13, 256, 176, "Q5_K"),
            Format::Q6_K => (14, 256, 210, "Q6_K"),
            Format::IQ4_NL => (20, 32, 18, "IQ4_NL"),
            Format::IQ4_XS => (23, 256, 136, "IQ4_XS"),
            Format::MXFP4 => (39, 32, 17, "MXFP4"),
            Format::NVFP4 => (40, nvfp4::LEN, nvfp4::BYTES, "NVFP4"),
            Format::IQ1_S => (19, 256, 50, "IQ1_S"),
            Format::IQ1_M => (29, 256, 56, "IQ1_M"),
            Format::IQ2_XXS => (16, 256, 66, "IQ2_XXS"),
            Format::IQ2_XS => (17, 256, 74, "IQ2_XS"),
            Format::IQ2_S => (22, 256, 82, "IQ2_S"),
            Format::IQ3_XXS => (18, 256, 98, "IQ3_XXS"),
            Format::IQ3_S => (21, 256, 110, "IQ3_S"),
            Format::TQ1_0 => (34, 256, 54, "TQ1_0"),
            Format::TQ2_0 => (35, 256, 66, "TQ2_0"),
            Format::Q1_0 => (41, q1_0::LEN, q1_0::BYTES, "Q1_0"),
            Format::Q2_0 => (42, q2_0::LEN, q2_0::BYTES, "Q2_0"),
        }
    }

    /// The format with ggml's type id `id`, if it is one of ours.
    pub fn from_ggml(id: u32) -> Option<Format> {
        Format::ALL.into_iter().find(|format| format.ggml_id() == id)
    }

    /// ggml's type id, as stored in a GGUF tensor record.
    pub const fn ggml_id(self) -> u32 {
        self.row().0
    }

    /// Weights per block: 1, 32, 64, 128 or 256.
    pub const fn block_len(self) -> usize {
        self.row().1
    }

    /// Bytes per block.
    pub const fn block_bytes(self) -> usize {
        self.row().2
    }

    /// ggml's name, as in `Q4_K`.
    pub const fn name(self) -> &'static str {
        self.row().3
    }

    /// Bytes of a row of `cols` weights; `None` if `cols` is no whole number of
    /// blocks or the size does not fit `usize`.
    pub const fn row_bytes(self, cols: usize) -> Option<usize> {
        if !cols.is_multiple_of(self.block_len()) {
            return None;
        }
        (cols / self.block_len()).checked_mul(self.block_bytes())
    }

    /// How many activations share a scale when they meet this format: 256 for
    /// super-blocks, 32 for the 32-wide formats, `None` for float formats and those that
    /// are multiplied as such, whose activations stay `f32`.
    pub const fn activation_block_len(self) -> Option<usize> {
        match self.block_len() {
            len @ (32 | 256) => Some(len),
            _ => None,
        }
    }

    /// Whether blocks are rewritten as [`Wide`] ones before they are multiplied.
    pub(crate) const fn is_rewritten(self) -> bool {
        use Format::{IQ1_M, IQ1_S, IQ2_S, IQ2_XS, IQ2_XXS, IQ3_S, IQ3_XXS, TQ1_0, TQ2_0};
        matches!(self, IQ1_S | IQ1_M | IQ2_XXS | IQ2_XS | IQ2_S | IQ3_XXS | IQ3_S | TQ1_0 | TQ2_0)
    }
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// The integer part of one weight of a block, in the formula of the module's
/// documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weight {
    /// The code, centred.
    pub code: i8,
    /// The integer scale; 1 in formats without.
    pub scale: i16,
    /// The integer minimum; 0 in formats without.
    pub min: i16,
}

/// The two block scales of one block.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scales {
    /// Multiplies the codes.
    pub d: f32,
    /// Multiplies the minimums; 0 in formats without one.
    pub dmin: f32,
}

/// Where [`BlockFormat::unpack`] puts one block: the integer part of the
/// formula in the module's documentation.
#[derive(Debug)]
pub struct Codes<'a> {
    /// `[LEN]`: the codes, centred.
    pub q: &'a mut [i8],
    /// `[LEN / 16]`: integer scale of each 16 weights.
    pub scale: &'a mut [i16],
    /// `[LEN / 16]`: integer minimum of each 16 weights; 0 in formats without.
    pub min: &'a mut [i16],
}

/// The exact integer sums of one block of weights with one block of int8
/// activations `a`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockDot {
    /// `Σ scale[k / 16] · q[k] · a[k]`.
    pub isum: i32,
    /// `Σ min[k / 16] · a[k]`.
    pub msum: i32,
}

/// A quantized format: its block, and what can be done with one block.
pub trait BlockFormat: 'static {
    /// Which format this is.
    const FORMAT: Format;
    /// Weights per block: 32 or 256.
    const LEN: usize = Self::FORMAT.block_len();
    /// Whether values have the `− dmin · min` part.
    const HAS_MIN: bool;
    /// The block's bytes, `[u8; N]`: alignment 1, every bit pattern valid.
    type Block: 'static + Copy + Sync;

    /// The whole blocks at the start of `row`.
    fn blocks(row: &[u8]) -> &[Self::Block];

    /// Weight `k` of the block, below `LEN`: the layout, stated once.
    /// [`dequantize`](Self::dequantize) and [`dot`](Self::dot) follow from it.
    fn weight(block: &Self::Block, k: usize) -> Weight;

    /// The block's float scales.
    fn scales(block: &Self::Block) -> Scales;

    /// Writes the block's weights to `out`, bit-exact with ggml's decoder.
    ///
    /// Panics, as do the other methods, if a slice has another length than the
    /// `LEN` values of one block.
    fn dequantize(block: &Self::Block, out: &mut [f32]) {
        assert_eq!(out.len(), Self::LEN, "weights of a block");
        let Scales { d, dmin } = Self::scales(block);
        for (k, out) in out.iter_mut().enumerate() {
            let Weight { code, scale, min } = Self::weight(block, k);
            *out = d * f32::from(scale) * f32::from(code) - dmin * f32::from(min);
        }
    }

    /// The scalar reference: sums of the block with `LEN` int8 activations. Every kernel is
    /// tested against it.
    fn dot(block: &Self::Block, activations: &[i8]) -> BlockDot {
        assert_eq!(activations.len(), Self::LEN, "activations of a block");
        let mut dot = BlockDot { isum: 0, msum: 0 };
        for (k, &a) in activations.iter().enumerate() {
            let Weight { code, scale, min } = Self::weight(block, k);
            dot.isum += i32::from(scale) * i32::from(code) * i32::from(a);
            dot.msum += i32::from(min) * i32::from(a);
        }
        dot
    }

    /// The block as codes, integer scales and minimums: what kernels multiply.
    /// Inlined into each instruction set's kernel, so that the compiler
    /// vectorizes one source for all of them.
    fn unpack(block: &Self::Block, out: Codes<'_>);
}

/// Writes the weights stored in `bytes` to `out`, bit-exact with ggml's decoder
/// (a NaN stays a NaN, with no promise about its payload).
///
/// # Errors
///
/// [`Error::Misuse`] if `out.len()` weights do not take exactly `bytes.len()`
/// bytes; `out` is unchanged then.
pub fn dequantize(format: Format, bytes: &[u8], out: &mut [f32]) -> Result<(), Error> {
    if format.row_bytes(out.len()) != Some(bytes.len()) {
        let (len, cols) = (bytes.len(), out.len());
        return Err(Error::misuse(format!("{len} bytes of {format} are not {cols} weights")));
    }
    with_block_format!(format, F => dequantize_blocks::<F>(bytes, out), else => {
        float::to_f32(format, bytes, out);
    });
    Ok(())
}

fn dequantize_blocks<F: BlockFormat>(bytes: &[u8], out: &mut [f32]) {
    for (block, out) in F::blocks(bytes).iter().zip(out.chunks_exact_mut(F::LEN)) {
        F::dequantize(block, out);
    }
}

/// The dot product of one row of weights with one row of activations: the
/// scalar reference that every kernel equals bit for bit.
///
/// Integer sums are exact; per block, in order, `t = fma(isum, d, −(msum · dmin))`
/// and `acc = fma(t, d8, acc)`. A float format counts as blocks of
/// one weight with `isum = q` (kernels keep the activations of float formats in
/// `f32`; this is for completeness).
///
/// # Panics
///
/// If `bytes` is not exactly one row for these activations, or their block
/// length is not [`Format::activation_block_len`].
pub fn dot_row(format: Format, bytes: &[u8], activations: ActivationRow<'_>) -> f32 {
    let cols = activations.q.len();
    assert_eq!(format.row_bytes(cols), Some(bytes.len()), "bytes of {cols} {format} weights");
    let block_len = format.activation_block_len().unwrap_or(activations.block_len());
    assert_eq!(block_len, activations.block_len(), "activations per scale for {format}");
    with_block_format!(
        format,
        F => dot_blocks::<F>(bytes, activations),
        else => dot_floats(format, bytes, activations)
    )
}

fn dot_blocks<F: BlockFormat>(bytes: &[u8], activations: ActivationRow<'_>) -> f32 {
    let codes = activations.q.chunks_exact(F::LEN);
    let mut acc = 0.0_f32;
    for ((block, a), d8) in F::blocks(bytes).iter().zip(codes).zip(activations.d) {
        let Scales { d, dmin } = F::scales(block);
        let BlockDot { isum, msum } = F::dot(block, a);
        acc = block_value(isum, msum, d, dmin).mul_add(*d8, acc);
    }
    acc
}

/// What a block of weights adds per unit of the activations' scale: the one
/// place where a block's integers become a float. `−(msum · dmin)` is rounded
/// first, the sum once more.
#[inline(always)]
pub(crate) fn block_value(isum: i32, msum: i32, d: f32, dmin: f32) -> f32 {
    (isum as f32).mul_add(d, -(msum as f32 * dmin))
}

fn dot_floats(format: Format, bytes: &[u8], activations: ActivationRow<'_>) -> f32 {
    let mut weights = vec![0.0; activations.q.len()];
    float::to_f32(format, bytes, &mut weights);
    let block_len = activations.block_len();
    let mut acc = 0.0_f32;
    for (k, (w, a)) in weights.iter().zip(activations.q).enumerate() {
        acc = (w * activations.d[k / block_len]).mul_add(f32::from(*a), acc);
    }
    acc
}

/// The `N` bytes at offset `at` of a block. Both are constants of the layout, so
/// the check disappears.
#[inline(always)]
pub(crate) fn field<const N: usize, const BLOCK: usize>(
    block: &[u8; BLOCK],
    at: usize,
) -> &[u8; N] {
    match block[at..].first_chunk() {
        Some(field) => field,
        None => wrong_length(N, BLOCK - at),
    }
}

/// The half-precision scale at offset `at` of a block.
#[inline(always)]
fn f16_at<const BLOCK: usize>(block: &[u8; BLOCK], at: usize) -> f32 {
    half::f16::from_le_bytes(*field(block, at)).to_f32()
}

/// `slice` as an array, which frees the loops over it from bounds checks. Another
/// length is a bug of the caller.
#[inline(always)]
fn array_mut<T, const N: usize>(slice: &mut [T]) -> &mut [T; N] {
    let len = slice.len();
    match slice.try_into() {
        Ok(array) => array,
        Err(_) => wrong_length(N, len),
    }
}

#[cold]
#[inline(never)]
fn wrong_length(expected: usize, found: usize) -> ! {
    panic!("a block's slice has {found} elements instead of {expected}")
}
