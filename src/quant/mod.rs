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
//! sub-blocks have `scale = 1`; formats without a minimum have `dmin = 0`.
//!
//! The layouts are those of ggml (`ggml-common.h`, MIT); the arithmetic of
//! `dequantize` is bit-exact with its C decoder: f32, multiply then subtract,
//! never fused.

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
}

impl Format {
    /// Every format, in the order of the enum.
    pub const ALL: [Format; 15] = [
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

    /// Weights per block: 1, 32 or 256.
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
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
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
    /// `[LEN / 16]`: integer minimum of each 16 weights.
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

    /// Writes the block's `LEN` weights to `out`, bit-exact with ggml's decoder.
    fn dequantize(block: &Self::Block, out: &mut [f32]);

    /// The block's float scales.
    fn scales(block: &Self::Block) -> Scales;

    /// The scalar reference: sums of the block with `LEN` int8 activations,
    /// written straight from the layout. Every kernel is tested against it.
    fn dot(block: &Self::Block, activations: &[i8]) -> BlockDot;

    /// The block as codes, integer scales and minimums: what kernels multiply.
    /// Inlined into each instruction set's kernel, so that the compiler
    /// vectorizes one source for all of them.
    fn unpack(block: &Self::Block, out: Codes<'_>);
}
/// stub
pub fn dequantize(_: Format, _: &[u8], _: &mut [f32]) -> crate::Result<()> {
    Ok(())
}
