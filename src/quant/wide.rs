//! Super-blocks with a byte per code: what formats without kernels of their own are rewritten
//! as before they are multiplied.
//!
//! ```text
//! byte   0       3  4             35  36    63  64                  319
//!      │    d    │ scales: 16 × i16 │  unused │ 256 bytes: code + 64 │
//!        f32 LE    LE
//!
//! weight = d · scale[k / 16] · code
//! ```
//! IQ1, IQ2 and IQ3 take several weights at once out of a [grid](super::grids), the ternary
//! formats have digits of base 3: an instruction set gains little over a table, and a kernel
//! for each would be much code. So there is one more step, and one kernel per instruction set
//! for all. Codes lie in whole lines of a cache.

use super::{BlockFormat, Codes, Format, Scales, Weight, array_mut, field};

/// What is added to a code to make it unsigned.
pub(crate) const BIAS: u8 = 64;

/// Where the codes begin.
pub(crate) const CODES: usize = 64;

/// A block.
pub type WideBlock = [u8; CODES + LEN];

const LEN: usize = 256;

/// Super-blocks with a byte per code, 16-bit scales per 16. Codes are −63 to 63, scales
/// below 128.
#[derive(Debug, Clone, Copy)]
pub struct Wide;

/// A super-block format that is rewritten as [`Wide`] before it is multiplied, in the words
/// that state its layout: eight weights at a time. [`block_format`] makes the rest of them.
pub trait Rewritten: BlockFormat {
    /// Whether signs stand apart from the points of a grid.
    const HAS_SIGNS: bool = false;

    /// The weights 32s + 8l .., with s and l below 8 and 4: each code + [`BIAS`] in a byte,
    /// without its sign where signs stand apart.
    fn eight(block: &Self::Block, s: usize, l: usize) -> u64;

    /// Which of the weights 32s .. are negative, where signs stand apart.
    #[inline(always)]
    fn signs(_: &Self::Block, _: usize) -> u32 {
        0
    }

    /// The integer scale of the weights 16i .., with i below 16.
    fn scale(block: &Self::Block, i: usize) -> i16;

    /// The scale of the block.
    fn d(block: &Self::Block) -> f32;
}

/// What [`BlockFormat`] asks of a [`Rewritten`] format with blocks of so many bytes.
macro_rules! block_format {
    ($format:ident $bytes:literal) => {
        impl $crate::quant::BlockFormat for $format {
            const FORMAT: $crate::quant::Format = $crate::quant::Format::$format;
            const HAS_MIN: bool = false;
            type Block = [u8; $bytes];

            fn blocks(row: &[u8]) -> &[[u8; $bytes]] {
                row.as_chunks().0
            }

            fn weight(block: &[u8; $bytes], k: usize) -> $crate::quant::Weight {
                let eight = Self::eight(block, k / 32, k % 32 / 8).to_le_bytes();
                let code = eight[k % 8].wrapping_sub($crate::quant::wide::BIAS) as i8;
                let negative = Self::signs(block, k / 32) >> (k % 32) & 1 == 1;
                let code = if negative { -code } else { code };
                $crate::quant::Weight { code, scale: Self::scale(block, k / 16), min: 0 }
            }

            #[inline(always)]
            fn scales(block: &[u8; $bytes]) -> $crate::quant::Scales {
                $crate::quant::Scales { d: Self::d(block), dmin: 0.0 }
            }

            #[inline(always)]
            fn unpack(block: &[u8; $bytes], out: $crate::quant::Codes<'_>) {
                $crate::quant::wide::unpack::<Self>(block, out);
            }
        }
    };
}
pub(super) use block_format;

/// How signs are put on magnitudes; an instruction set may do better than [`ByTable`].
pub(crate) trait Signs: Copy {
    /// Writes 32 biased codes: of `magnitudes` + [`BIAS`], those negative whose bit is set.
    fn put(self, magnitudes: [u64; 4], signs: u32, out: &mut [u8; 32]);
}

/// Eight at a time.
#[derive(Clone, Copy)]
pub(crate) struct ByTable;

impl Signs for ByTable {
    #[inline(always)]
    fn put(self, magnitudes: [u64; 4], signs: u32, out: &mut [u8; 32]) {
        let out = out.as_chunks_mut::<8>().0.iter_mut();
        for ((out, eight), signs) in out.zip(magnitudes).zip(signs.to_le_bytes()) {
            let mask = NEGATIVE[usize::from(signs)];
            // 255 − (64 + q) − 127 = 64 − q: no byte borrows from its neighbour.
            *out = ((eight ^ mask) - (mask & (0x7f * ONES))).to_le_bytes();
        }
    }
}

/// Writes each code, + [`BIAS`], and the scale of each 16 weights.
#[inline(always)]
fn rewrite<F: Rewritten>(
    block: &F::Block,
    put: impl Signs,
    codes: &mut [u8; LEN],
    scales: &mut [i16; LEN / 16],
) {
    for (s, out) in codes.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        // A loop, not a closure, which is not always inlined.
        let mut eights = [0; 4];
        for (l, eight) in eights.iter_mut().enumerate() {
            *eight = F::eight(block, s, l);
        }
        if F::HAS_SIGNS {
            put.put(eights, F::signs(block, s), out);
        } else {
            for (out, eight) in out.as_chunks_mut::<8>().0.iter_mut().zip(eights) {
                *out = eight.to_le_bytes();
            }
        }
    }
    for (i, scale) in scales.iter_mut().enumerate() {
        *scale = F::scale(block, i);
    }
}

/// The same block, `Wide`.
#[inline(always)]
pub(crate) fn write<F: Rewritten>(block: &F::Block, put: impl Signs, out: &mut WideBlock) {
    let (head, codes) = out.split_at_mut(CODES);
    let mut scales = [0; LEN / 16];
    rewrite::<F>(block, put, array_mut(codes), &mut scales);
    let (d, rest) = head.split_at_mut(4);
    d.copy_from_slice(&F::scales(block).d.to_le_bytes());
    for (place, scale) in rest.as_chunks_mut().0.iter_mut().zip(scales) {
        *place = scale.to_le_bytes();
    }
}

/// [`BlockFormat::unpack`] of a format that is rewritten.
#[inline(always)]
pub(super) fn unpack<F: Rewritten>(block: &F::Block, out: Codes<'_>) {
    let mut codes = [0; LEN];
    rewrite::<F>(block, ByTable, &mut codes, array_mut(out.scale));
    let q: &mut [i8; LEN] = array_mut(out.q);
    for (q, code) in q.iter_mut().zip(codes) {
        *q = code.wrapping_sub(BIAS) as i8;
    }
    *array_mut(out.min) = [0; LEN / 16];
}

/// Scale of each 16 weights.
#[inline(always)]
pub(crate) fn integer_scales(block: &WideBlock) -> [i16; LEN / 16] {
    let bytes: &[u8; LEN / 8] = field(block, 4);
    let mut scales = [0; LEN / 16];
    for (scale, bytes) in scales.iter_mut().zip(bytes.as_chunks().0) {
        *scale = i16::from_le_bytes(*bytes);
    }
    scales
}

impl BlockFormat for Wide {
    /// One of those that are rewritten: a scale per 16 weights, no minimums.
    const FORMAT: Format = Format::IQ2_XS;
    const HAS_MIN: bool = false;
    type Block = WideBlock;

    fn blocks(row: &[u8]) -> &[WideBlock] {
        row.as_chunks().0
    }

    fn weight(block: &WideBlock, k: usize) -> Weight {
        let code = block[CODES + k].wrapping_sub(BIAS) as i8;
        Weight { code, scale: integer_scales(block)[k / 16], min: 0 }
    }

    #[inline(always)]
    fn scales(block: &WideBlock) -> Scales {
        Scales { d: f32::from_le_bytes(*field(block, 0)), dmin: 0.0 }
    }

    #[inline(always)]
    fn unpack(block: &WideBlock, out: Codes<'_>) {
        let q: &mut [i8; LEN] = array_mut(out.q);
        for (q, code) in q.iter_mut().zip(field::<LEN, _>(block, CODES)) {
            *q = code.wrapping_sub(BIAS) as i8;
        }
        *array_mut(out.scale) = integer_scales(block);
        *array_mut(out.min) = [0; LEN / 16];
    }
}

/// Bytes of 1.
pub(super) const ONES: u64 = 0x0101_0101_0101_0101;

/// For each sign byte, 0xff in the bytes whose bit is set.
static NEGATIVE: [u64; 256] = {
    let (mut masks, mut signs) = ([0; 256], 0);
    while signs < 256 {
        let mut bit = 0;
        while bit < 8 {
            if signs >> bit & 1 == 1 {
                masks[signs] |= 0xff << (8 * bit);
            }
            bit += 1;
        }
        signs += 1;
    }
    masks
};

/// Bytes of seven signs, each with an eighth that makes their number even.
#[inline(always)]
pub(super) fn even_signs(sevens: u32) -> u32 {
    // Bit 0 of each byte: the parity of its eight bits, of which the highest is 0. What
    // shifts across bytes reaches other bits only.
    let four = sevens ^ sevens >> 4;
    let two = four ^ four >> 2;
    sevens | ((two ^ two >> 1) & 0x0101_0101) << 7
}

/// Four times seven signs, as bits in a row: in bytes, for [`even_signs`].
#[inline(always)]
pub(super) fn sevens(word: u32) -> u32 {
    word & 0x7f | word << 1 & 0x7f00 | word << 2 & 0x7f_0000 | word << 3 & 0x7f00_0000
}

/// Eight biased codes plus 1, or minus 1.
#[inline(always)]
pub(super) fn shifted(eight: u64, down: bool) -> u64 {
    eight + ONES - if down { 2 * ONES } else { 0 }
}
