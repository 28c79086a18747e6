//! Strips: a few neighbouring rows of a quantized matrix times all rows of a
//! batch. The unit that kernels work in, whatever the format and the set.

use std::marker::PhantomData;

use crate::quant::{
    ActivationRows, BlockFormat, Codes, Format, Scales, block_value, with_block_format,
};

use super::sixteens::Sixteens;
use super::threes::Threes;
use super::{Simd, Task};

/// Up to [`Strip::ROWS`] rows of quantized weights and what they are multiplied with. Also
/// any number of neighbouring strips, see [`Strip::parts`].
#[derive(Clone, Copy)]
pub(crate) struct Strip<'a> {
    /// A quantized format.
    pub format: Format,
    /// Weights per row: a multiple of the format's block.
    pub cols: usize,
    /// Weight rows: of one strip, 1 to [`Strip::ROWS`].
    pub rows: usize,
    /// The weight rows, one behind the other: `rows` · bytes of a row.
    pub bytes: &'a [u8],
    /// `[batch, cols]`, in blocks of the format's
    /// [`activation_block_len`](Format::activation_block_len).
    pub activations: &'a ActivationRows,
    /// The same once more, if that is the [order](crate::simd::Isa::order) that the set
    /// takes them in; else nothing, or what was of other activations.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "AVX-512 reads them"))]
    pub threes: &'a Threes,
    /// As `threes`.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "AMX reads them"))]
    pub sixteens: &'a Sixteens,
    /// Where the product goes afterwards.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "AVX-512 reads them"))]
    pub target: Target,
}

/// Where rows of a strip's product go from its `out`: row m to `start + m · width`.
/// Kernels may fetch these places, nothing else.
#[derive(Clone, Copy)]
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "AVX-512 reads them"))]
pub(crate) struct Target {
    pub start: *const f32,
    pub width: usize,
}

impl<'a> Strip<'a> {
    /// Most rows of a strip: two AVX-512 registers of 32-bit lanes. Also the
    /// distance of output rows: `out[m · ROWS + n]` is weight row n times
    /// activation row m.
    pub const ROWS: usize = 32;

    /// Rows of activations.
    pub fn batch(&self) -> usize {
        self.activations.rows()
    }

    /// Strips of at most [`Strip::ROWS`] rows that make up one of more.
    pub fn parts(&self) -> impl Iterator<Item = Strip<'a>> {
        let row = self.bytes.len() / self.rows.max(1);
        self.bytes.chunks((row * Self::ROWS).max(1)).enumerate().map(move |(i, bytes)| {
            let start = self.target.start.wrapping_add(i * Self::ROWS);
            let target = Target { start, ..self.target };
            Strip { rows: bytes.len() / row.max(1), bytes, target, ..*self }
        })
    }

    /// Bytes of each weight row.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "AVX-512 uses it"))]
    pub fn weight_rows(&self) -> impl Iterator<Item = &'a [u8]> {
        self.bytes.chunks_exact((self.bytes.len() / self.rows.max(1)).max(1))
    }

    /// Bytes of weight row `n`.
    pub fn row(&self, n: usize) -> &'a [u8] {
        let len = self.bytes.len() / self.rows;
        &self.bytes[n * len..(n + 1) * len]
    }
}

/// A thread's working memory, kept from strip to strip.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// `[batch]`
    sums: Vec<f32>,
    /// `[batch, rows, blocks]`: what each block adds before the activations' scale.
    #[cfg(target_arch = "x86_64")]
    pub(super) values: Vec<f32>,
    #[cfg(target_arch = "x86_64")]
    pub(super) panel: super::avx512::Panel,
    #[cfg(target_arch = "x86_64")]
    pub(super) amx: Option<Box<super::avx512::AmxMemory>>,
    #[cfg(target_arch = "x86_64")]
    pub(super) amx_small: Option<Box<super::avx512::AmxSmallMemory>>,
    #[cfg(target_arch = "x86_64")]
    pub(super) interleaved: super::avx512::Interleaved,
    #[cfg(target_arch = "x86_64")]
    pub(super) avx2: super::avx2::Memory,
}

/// Any format on any set: a block is unpacked once and multiplied with every row
/// of the batch.
#[inline(always)]
pub(super) fn unpack_and_dot<S: Simd>(
    simd: S,
    strip: &Strip<'_>,
    scratch: &mut Scratch,
    out: &mut [f32],
) {
    let acc = &mut scratch.sums;
    with_block_format!(
        strip.format,
        F => simd.apart(Blocks::<F> { strip, acc, out, format: PhantomData }),
        else => debug_assert!(false, "{} has no blocks", strip.format)
    )
}

struct Blocks<'a, F> {
    strip: &'a Strip<'a>,
    acc: &'a mut Vec<f32>,
    out: &'a mut [f32],
    format: PhantomData<F>,
}

impl<F: BlockFormat> Task for Blocks<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Blocks { strip, acc, out, .. } = self;
        blocks::<S, F>(simd, strip, acc, out);
    }
}

#[inline(always)]
fn blocks<S: Simd, F: BlockFormat>(
    simd: S,
    strip: &Strip<'_>,
    acc: &mut Vec<f32>,
    out: &mut [f32],
) {
    let (mut q, mut scale, mut min) = ([0; 256], [0; 16], [0; 16]);
    let (q, scale, min) = (&mut q[..F::LEN], &mut scale[..F::LEN / 16], &mut min[..F::LEN / 16]);
    acc.resize(strip.batch(), 0.0);
    for n in 0..strip.rows {
        acc.fill(0.0);
        for (b, block) in F::blocks(strip.row(n)).iter().enumerate() {
            F::unpack(block, Codes { q: &mut *q, scale: &mut *scale, min: &mut *min });
            let Scales { d, dmin } = F::scales(block);
            for (m, acc) in acc.iter_mut().enumerate() {
                let row = strip.activations.row(m);
                let isum = simd.dot_codes(q, scale, &row.q[b * F::LEN..(b + 1) * F::LEN]);
                let sums = &row.sums[b * F::LEN / 16..(b + 1) * F::LEN / 16];
                let msum = if F::HAS_MIN { simd.dot_mins(min, sums) } else { 0 };
                *acc = block_value(isum, msum, d, dmin).mul_add(row.d[b], *acc);
            }
        }
        for (m, &acc) in acc.iter().enumerate() {
            out[m * Strip::ROWS + n] = acc;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::{ActivationRowMut, dot_row};
    use crate::simd::Isa;
    use crate::simd::sixteens::{self, SixteenScales, SixteensOf};
    use crate::simd::threes;

    struct Run<'a>(&'a Strip<'a>, &'a mut Scratch, &'a mut [f32]);

    impl Task for Run<'_> {
        type Output = ();

        #[inline(always)]
        fn run<S: Simd>(self, simd: S) {
            simd.strips(self.0, self.1, self.2);
        }
    }

    fn random(seed: u64) -> impl FnMut() -> u8 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        }
    }

    /// Byte places of half-precision values, which must stay finite.
    fn halves(format: Format) -> &'static [usize] {
        match format {
            Format::Q4_1 | Format::Q5_1 | Format::Q4_K | Format::Q5_K => &[0, 2],
            Format::Q2_K => &[80, 82],
            Format::Q3_K => &[108],
            Format::Q6_K => &[208],
            _ => &[0],
        }
    }

    /// Blocks of random bytes, of all-zero and of all-one bits; scales of any
    /// finite size, subnormal and negative ones too.
    fn weights(format: Format, bytes: &mut [u8]) {
        let mut next = random(bytes.len() as u64);
        for block in bytes.chunks_exact_mut(format.block_bytes()) {
            match next() % 4 {
                0 => block.fill(0),
                1 => block.fill(0xff),
                _ => block.fill_with(&mut next),
            }
            for &at in halves(format) {
                // The sign, an exponent below the one of infinities, the mantissa.
                block[at] = next();
                block[at + 1] = next() & 0xbf;
            }
        }
    }

    /// Rows of codes: all 127, all −127, alternating, and random ones.
    fn activations(rows: usize, cols: usize, block_len: usize) -> ActivationRows {
        let mut all = ActivationRows::new(rows, cols, block_len);
        let mut next = random(rows as u64);
        for (m, row) in all.rows_mut().enumerate() {
            for (k, q) in row.q.iter_mut().enumerate() {
                *q = match m % 5 {
                    0 => next() as i8,
                    1 => 127,
                    2 => -127,
                    3 => {
                        if k % 2 == 0 {
                            127
                        } else {
                            -127
                        }
                    }
                    _ => {
                        if next() < 128 {
                            127
                        } else {
                            -127
                        }
                    }
                }
                .max(-127);
            }
            finish(row, &mut next);
        }
        all
    }

    /// The sums of a row's codes, and any scales.
    fn finish(row: ActivationRowMut<'_>, mut next: impl FnMut() -> u8) {
        for (sum, q) in row.sums.iter_mut().zip(row.q.as_chunks::<16>().0) {
            *sum = q.iter().map(|&q| i16::from(q)).sum();
        }
        for (sum, [a, b]) in row.sums32.iter_mut().zip(row.sums.as_chunks().0) {
            *sum = a + b;
        }
        row.d.fill_with(|| f32::from(next()) / 64.0 - 2.0);
    }

    /// Three rows each whose positive or negative codes add up to one number in every 16
    /// or every 32 of them, the others being 0; and three of small random codes.
    fn edges(cols: usize, sums: &[(usize, u32)]) -> ActivationRows {
        let mut all = ActivationRows::new(6 * sums.len() + 3, cols, 256);
        let mut next = random(cols as u64);
        for (m, row) in all.rows_mut().enumerate() {
            match sums.get(m / 6) {
                Some(&(width, sum)) => {
                    for q in row.q.chunks_exact_mut(width) {
                        let mut rest = sum;
                        for q in q {
                            let code = rest.min(127);
                            rest -= code;
                            *q = if m % 6 < 3 { code as i8 } else { -(code as i8) };
                        }
                        assert_eq!(rest, 0);
                    }
                }
                None => row.q.fill_with(|| (next() % 31) as i8 - 15),
            }
            finish(row, &mut next);
        }
        all
    }

    /// Sums of products around the largest that fit 16 bits, of the largest, the smallest
    /// and of random weights.
    #[test]
    fn sums_may_be_as_large_as_codes_allow() {
        let cols = 1024;
        // All there is; of weights up to 15 and 31 in 32 columns, of −32 to 31 in 16.
        let sums = [
            (32, 32 * 127),
            (32, 2184),
            (32, 2185),
            (32, 1057),
            (32, 1058),
            (16, 1023),
            (16, 1024),
            (16, 1025),
        ];
        let edges = edges(cols, &sums);
        for format in Format::ALL {
            if format.activation_block_len() != Some(256) {
                continue;
            }
            let rows = Strip::ROWS;
            let mut bytes = vec![0; format.row_bytes(cols).unwrap() * rows];
            weights(format, &mut bytes);
            let bytes = &bytes;
            let expected = reference(format, cols, bytes, &edges);
            for batch in [1, 2, 3, 4, 6, 8, edges.rows()] {
                let activations = &first_rows(&edges, batch);
                let (threes, target) = (&threes(activations), NOWHERE);
                let sixteens = &sixteens(activations);
                let strip =
                    Strip { format, cols, rows, bytes, activations, threes, sixteens, target };
                for isa in Isa::available() {
                    check(isa, &strip, &mut Scratch::default(), &expected, 0);
                }
            }
        }
    }

    /// Memory whose end is followed by a page that must not be touched: two pages
    /// are mapped of a file that has one less.
    struct Guarded {
        map: memmap2::MmapMut,
        end: usize,
    }

    impl Guarded {
        fn new(len: usize, name: &str) -> Self {
            const PAGE: usize = 4096;
            let end = len.next_multiple_of(PAGE);
            let path = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
            std::fs::write(&path, vec![0; end]).unwrap();
            let opened = std::fs::File::open(&path).unwrap();
            std::fs::remove_file(&path).unwrap();
            // SAFETY: nobody else has the file, which is unlinked.
            let map = unsafe { memmap2::MmapOptions::new().len(end + PAGE).map_copy(&opened) };
            Guarded { map: map.unwrap(), end }
        }

        /// A copy of `bytes` that ends `gap` bytes before the page.
        fn place(&mut self, bytes: &[u8], gap: usize) -> &[u8] {
            let end = self.end - gap;
            let place = &mut self.map[end - bytes.len()..end];
            place.copy_from_slice(bytes);
            place
        }
    }

    /// `[batch, weight rows]` of bits, counted once: a product depends on its
    /// rows alone.
    fn reference(
        format: Format,
        cols: usize,
        bytes: &[u8],
        activations: &ActivationRows,
    ) -> Vec<Vec<u32>> {
        let row_bytes = format.row_bytes(cols).unwrap();
        let rows = || bytes.chunks_exact(row_bytes);
        (0..activations.rows())
            .map(|m| rows().map(|row| dot_row(format, row, activations.row(m)).to_bits()).collect())
            .collect()
    }

    const NOWHERE: Target = Target { start: std::ptr::null(), width: 0 };

    /// One call, whose rows are `expected[m][first ..]`.
    fn check(
        isa: Isa,
        strip: &Strip<'_>,
        scratch: &mut Scratch,
        expected: &[Vec<u32>],
        first: usize,
    ) {
        let Strip { format, cols, rows, bytes, .. } = strip;
        let size = strip.batch() * Strip::ROWS;
        let mut out = vec![f32::NAN; rows.div_ceil(Strip::ROWS) * size];
        isa.run(Run(strip, scratch, &mut out));
        for n in 0..*rows {
            let of_strip = &out[n / Strip::ROWS * size..][..size];
            for (m, out) in of_strip.chunks_exact(Strip::ROWS).enumerate() {
                assert_eq!(
                    out[n % Strip::ROWS].to_bits(),
                    expected[m][first + n],
                    "{format} {isa} {rows} × {cols}, batch {}, start {:?}, [{m}, {n}]",
                    strip.batch(),
                    bytes.as_ptr()
                );
            }
        }
    }

    /// All formats on all sets against the scalar reference, bit for bit, for
    /// batches and numbers of rows on both sides of what the algorithms take at
    /// once. The last row of weights ends where memory does.
    #[test]
    fn every_strip_equals_the_scalar_reference() {
        let (mut calls, target) = (0, NOWHERE);
        for format in Format::ALL {
            let Some(block_len) = format.activation_block_len() else { continue };
            for blocks in [1, 2, 3, 5, 8, 16, 17] {
                let cols = blocks * block_len;
                let row_bytes = format.row_bytes(cols).unwrap();
                let mut bytes = vec![0; row_bytes * Strip::ROWS];
                weights(format, &mut bytes);
                let largest = activations(80, cols, block_len);
                let expected = reference(format, cols, &bytes, &largest);
                let name = format!("tramontane-{format}-{blocks}");
                let mut guarded = Guarded::new(bytes.len(), &name);
                let bytes = guarded.place(&bytes, 0);
                for batch in [1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 49, 64, 80] {
                    let activations = first_rows(&largest, batch);
                    let threes = &threes(&activations);
                    let sixteens = &sixteens(&activations);
                    for rows in [1, 2, 7, 8, 9, 15, 16, 17, 31, 32] {
                        if batch > 13 && !matches!(rows, 1 | 17 | 31) {
                            continue;
                        }
                        // The last rows, so that the end is the end of memory.
                        let first = Strip::ROWS - rows;
                        let bytes = &bytes[first * row_bytes..];
                        let activations = &activations;
                        let strip = Strip {
                            format,
                            cols,
                            rows,
                            bytes,
                            activations,
                            threes,
                            sixteens,
                            target,
                        };
                        for isa in Isa::available() {
                            // Scratch that is new, and that other shapes have used.
                            let mut scratch = Scratch::default();
                            for _ in 0..2 {
                                check(isa, &strip, &mut scratch, &expected, first);
                                calls += 1;
                            }
                        }
                    }
                }
            }
        }
        assert!(calls > 60_000, "{calls} calls");
    }

    /// Strips given together, the last one with fewer rows, as each by itself.
    #[test]
    fn neighbouring_strips_equal_the_scalar_reference() {
        let (blocks, rows, target) = (3, 3 * Strip::ROWS + 5, NOWHERE);
        for format in Format::ALL {
            let Some(block_len) = format.activation_block_len() else { continue };
            let cols = blocks * block_len;
            let mut bytes = vec![0; format.row_bytes(cols).unwrap() * rows];
            weights(format, &mut bytes);
            let bytes = &bytes;
            let largest = activations(100, cols, block_len);
            let expected = reference(format, cols, bytes, &largest);
            for batch in [1, 3, 8, 9, 48, 50, 100] {
                let activations = &first_rows(&largest, batch);
                let (threes, sixteens) = (&threes(activations), &sixteens(activations));
                let strips =
                    Strip { format, cols, rows, bytes, activations, threes, sixteens, target };
                for isa in Isa::available() {
                    check(isa, &strips, &mut Scratch::default(), &expected, 0);
                }
            }
        }
    }

    /// A thread's working memory remembers what it made of the activations: matrices of
    /// other formats that multiply the same must find it right.
    #[test]
    fn formats_share_their_activations() {
        let (cols, rows, target) = (1280, Strip::ROWS, NOWHERE);
        let formats =
            || Format::ALL.into_iter().filter(|format| format.activation_block_len() == Some(256));
        for batch in (1..=9).chain(48..=49) {
            let activations = &activations(batch, cols, 256);
            let threes = &threes(activations);
            let sixteens = &sixteens(activations);
            let mut scratch: Vec<_> = Isa::available().iter().map(|_| Scratch::default()).collect();
            for format in formats().chain(formats()) {
                let mut bytes = vec![0; format.row_bytes(cols).unwrap() * rows];
                weights(format, &mut bytes);
                let expected = reference(format, cols, &bytes, activations);
                let bytes = &bytes;
                let strip =
                    Strip { format, cols, rows, bytes, activations, threes, sixteens, target };
                for (isa, scratch) in Isa::available().into_iter().zip(&mut scratch) {
                    check(isa, &strip, scratch, &expected, 0);
                }
            }
        }
    }

    /// Numbers of rows on both sides of every width that kernels work in.
    const ROWS: [usize; 20] =
        [1, 2, 3, 4, 5, 7, 8, 9, 11, 12, 15, 16, 17, 20, 23, 24, 25, 28, 31, 32];

    /// Small strips, ending 0 to 63 bytes before the page that must not be read:
    /// every alignment of weights, and no byte read beyond them that a kernel does
    /// not own. At least 250,000 calls per set, a million where there are four.
    #[test]
    #[allow(clippy::print_stdout, reason = "the number of calls is part of the evidence")]
    fn weights_may_lie_anywhere() {
        // Without optimization the kernels are fifty times slower.
        let step = if cfg!(debug_assertions) { 21 } else { 1 };
        let sets = Isa::available();
        let (mut calls, target) = (vec![0u32; sets.len()], NOWHERE);
        let mut starts = std::collections::BTreeSet::new();
        for format in Format::ALL {
            let Some(block_len) = format.activation_block_len() else { continue };
            for blocks in 1..=3 {
                let cols = blocks * block_len;
                let row_bytes = format.row_bytes(cols).unwrap();
                let mut bytes = vec![0; row_bytes * Strip::ROWS];
                weights(format, &mut bytes);
                let mut guarded =
                    Guarded::new(bytes.len() + 64, &format!("tramontane-at-{format}-{blocks}"));
                let largest = activations(6, cols, block_len);
                let expected = reference(format, cols, &bytes, &largest);
                let mut scratch: Vec<Scratch> = sets.iter().map(|_| Scratch::default()).collect();
                for (batch, rows) in (1..=6).flat_map(|batch| ROWS.map(|rows| (batch, rows))) {
                    let activations = &first_rows(&largest, batch);
                    let threes = &threes(activations);
                    let sixteens = &sixteens(activations);
                    for gap in (0..64).step_by(step) {
                        let bytes = guarded.place(&bytes[..rows * row_bytes], gap);
                        starts.insert((format.name(), bytes.as_ptr().addr() % 64));
                        let strip = Strip {
                            format,
                            cols,
                            rows,
                            bytes,
                            activations,
                            threes,
                            sixteens,
                            target,
                        };
                        for (i, &isa) in sets.iter().enumerate() {
                            check(isa, &strip, &mut scratch[i], &expected, 0);
                            calls[i] += 1;
                        }
                    }
                }
            }
        }
        for (isa, calls) in sets.iter().zip(&calls) {
            println!("{isa}: {calls} calls");
        }
        if step == 1 {
            assert!(calls.iter().all(|&calls| calls >= 250_000), "{calls:?}");
            let formats = Format::ALL.iter().filter(|f| f.activation_block_len().is_some());
            assert_eq!(starts.len(), formats.count() * 64, "every format at every alignment");
        }
    }

    fn first_rows(all: &ActivationRows, rows: usize) -> ActivationRows {
        let mut some = ActivationRows::new(rows, all.cols(), all.block_len());
        for (m, row) in some.rows_mut().enumerate() {
            row.q.copy_from_slice(all.row(m).q);
            row.d.copy_from_slice(all.row(m).d);
            row.sums.copy_from_slice(all.row(m).sums);
            row.sums32.copy_from_slice(all.row(m).sums32);
        }
        some
    }

    fn threes(activations: &ActivationRows) -> Threes {
        let mut threes = Threes::default();
        if activations.block_len() == 256 {
            for (step, blocks) in threes.steps_mut(activations).enumerate() {
                Isa::detect().run(threes::Fill { activations, step, blocks });
            }
        }
        threes
    }

    fn sixteens(activations: &ActivationRows) -> Sixteens {
        fn fill<S: SixteenScales>(of: &mut SixteensOf<S>, activations: &ActivationRows) {
            for (at, tiles) in of.columns_mut(activations).enumerate() {
                Isa::detect().run(sixteens::Fill { activations, at, tiles });
            }
        }
        let mut sixteens = Sixteens::default();
        match activations.block_len() {
            256 => fill(&mut sixteens.of_256, activations),
            _ => fill(&mut sixteens.of_32, activations),
        }
        sixteens
    }
}
