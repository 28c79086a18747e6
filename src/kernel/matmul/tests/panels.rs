//! Row panels: every format on every tier, at every alignment.

use crate::kernel::matmul::row_panel::{Packed, RowPanel, Scratch, Target};
use crate::kernel::matmul::tiers;
use crate::kernel::pool::{Pool, Team};
use crate::quant::{ActivationRowMut, ActivationRows, Format, dot_row};
use crate::simd::Isa;

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
        // The highest bits of d lie in the last scale.
        Format::IQ1_M => &[54],
        Format::TQ1_0 => &[52],
        Format::TQ2_0 => &[64],
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
        if format == Format::MXFP4 {
            // 2^−128 to 2^63.
            block[0] = next() % 192;
            continue;
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
        let rows = RowPanel::ROWS;
        let mut bytes = vec![0; format.row_bytes(cols).unwrap() * rows];
        weights(format, &mut bytes);
        let bytes = &bytes;
        let expected = reference(format, cols, bytes, &edges);
        for batch in [1, 2, 3, 4, 6, 8, edges.rows()] {
            let weights = RowPanel { format, cols, rows, bytes, target: NOWHERE };
            for (isa, packed) in &packed(&first_rows(&edges, batch), &[format]) {
                check(*isa, &weights, packed, &mut Scratch::default(), &expected, 0);
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

/// The rows as every tier packs them.
fn packed(activations: &ActivationRows, formats: &[Format]) -> Vec<(Isa, Packed)> {
    let pack =
        |team: &Team<'_>, isa: Isa| Packed::of(team, tiers::of(&isa), activations.clone(), formats);
    Pool::new(1)
        .unwrap()
        .region(|team| Isa::available().into_iter().map(|isa| (isa, pack(team, isa))).collect())
}

/// One call, whose rows are `expected[m][first ..]`.
fn check(
    isa: Isa,
    weights: &RowPanel<'_>,
    packed: &Packed,
    scratch: &mut Scratch,
    expected: &[Vec<u32>],
    first: usize,
) {
    let RowPanel { format, cols, rows, bytes, .. } = weights;
    let size = packed.batch() * RowPanel::ROWS;
    let mut out = vec![f32::NAN; rows.div_ceil(RowPanel::ROWS) * size];
    tiers::multiply(&isa, weights, packed, scratch, &mut out);
    for n in 0..*rows {
        let of_panel = &out[n / RowPanel::ROWS * size..][..size];
        for (m, out) in of_panel.chunks_exact(RowPanel::ROWS).enumerate() {
            assert_eq!(
                out[n % RowPanel::ROWS].to_bits(),
                expected[m][first + n],
                "{format} {isa} {rows} × {cols}, batch {}, start {:?}, [{m}, {n}]",
                packed.batch(),
                bytes.as_ptr()
            );
        }
    }
}

/// All formats on all tiers against the scalar reference, bit for bit, for
/// batches and numbers of rows on both sides of what the algorithms take at
/// once. The last row of weights ends where memory does.
#[test]
fn every_panel_equals_the_scalar_reference() {
    let (mut calls, target) = (0, NOWHERE);
    for format in Format::ALL {
        let Some(block_len) = format.activation_block_len() else { continue };
        for blocks in [1, 2, 3, 5, 8, 16, 17] {
            let cols = blocks * block_len;
            let row_bytes = format.row_bytes(cols).unwrap();
            let mut bytes = vec![0; row_bytes * RowPanel::ROWS];
            weights(format, &mut bytes);
            let largest = activations(80, cols, block_len);
            let expected = reference(format, cols, &bytes, &largest);
            let name = format!("tramontane-{format}-{blocks}");
            let mut guarded = Guarded::new(bytes.len(), &name);
            let bytes = guarded.place(&bytes, 0);
            for batch in [1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 49, 64, 80] {
                let packed = packed(&first_rows(&largest, batch), &[format]);
                for rows in [1, 2, 7, 8, 9, 15, 16, 17, 31, 32] {
                    if batch > 13 && !matches!(rows, 1 | 17 | 31) {
                        continue;
                    }
                    // The last rows, so that the end is the end of memory.
                    let first = RowPanel::ROWS - rows;
                    let bytes = &bytes[first * row_bytes..];
                    let weights = RowPanel { format, cols, rows, bytes, target };
                    for (isa, packed) in &packed {
                        // Scratch that is new, and that other shapes have used.
                        let mut scratch = Scratch::default();
                        for _ in 0..2 {
                            check(*isa, &weights, packed, &mut scratch, &expected, first);
                            calls += 1;
                        }
                    }
                }
            }
        }
    }
    let tiers = Isa::available().len();
    assert!(calls > 15_000 * tiers, "{calls} calls of {tiers} tiers");
}

/// Panels given together, the last one with fewer rows, as each by itself.
#[test]
fn neighbouring_panels_equal_the_scalar_reference() {
    let (blocks, rows, target) = (3, 3 * RowPanel::ROWS + 5, NOWHERE);
    for format in Format::ALL {
        let Some(block_len) = format.activation_block_len() else { continue };
        let cols = blocks * block_len;
        let mut bytes = vec![0; format.row_bytes(cols).unwrap() * rows];
        weights(format, &mut bytes);
        let bytes = &bytes;
        let largest = activations(100, cols, block_len);
        let expected = reference(format, cols, bytes, &largest);
        for batch in [1, 3, 8, 9, 48, 50, 100] {
            let weights = RowPanel { format, cols, rows, bytes, target };
            for (isa, packed) in &packed(&first_rows(&largest, batch), &[format]) {
                check(*isa, &weights, packed, &mut Scratch::default(), &expected, 0);
            }
        }
    }
}

/// Activations are packed once for the matrices of all formats that multiply them, and a
/// thread's working memory serves them all.
#[test]
fn formats_share_their_activations() {
    let (cols, rows, target) = (1280, RowPanel::ROWS, NOWHERE);
    let formats: Vec<Format> = Format::ALL
        .into_iter()
        .filter(|format| format.activation_block_len() == Some(256))
        .collect();
    for batch in (1..=9).chain(48..=49) {
        let activations = activations(batch, cols, 256);
        let packed = packed(&activations, &formats);
        let mut scratch: Vec<_> = packed.iter().map(|_| Scratch::default()).collect();
        for &format in formats.iter().chain(&formats) {
            let mut bytes = vec![0; format.row_bytes(cols).unwrap() * rows];
            weights(format, &mut bytes);
            let expected = reference(format, cols, &bytes, &activations);
            let weights = RowPanel { format, cols, rows, bytes: &bytes, target };
            for ((isa, packed), scratch) in packed.iter().zip(&mut scratch) {
                check(*isa, &weights, packed, scratch, &expected, 0);
            }
        }
    }
}

/// Numbers of rows on both sides of every width that kernels work in.
const ROWS: [usize; 20] = [1, 2, 3, 4, 5, 7, 8, 9, 11, 12, 15, 16, 17, 20, 23, 24, 25, 28, 31, 32];

/// Small panels, ending 0 to 63 bytes before the page that must not be read:
/// every alignment of weights, and no byte read beyond them that a kernel does
/// not own. At least 250,000 calls per tier, a million where there are four.
#[test]
#[allow(clippy::print_stdout, reason = "the number of calls is part of the evidence")]
fn weights_may_lie_anywhere() {
    // Without optimization the kernels are fifty times slower.
    let step = if cfg!(debug_assertions) { 21 } else { 1 };
    let tiers = Isa::available();
    let (mut calls, target) = (vec![0u32; tiers.len()], NOWHERE);
    let mut starts = std::collections::BTreeSet::new();
    for format in Format::ALL {
        let Some(block_len) = format.activation_block_len() else { continue };
        for blocks in 1..=3 {
            let cols = blocks * block_len;
            let row_bytes = format.row_bytes(cols).unwrap();
            let mut bytes = vec![0; row_bytes * RowPanel::ROWS];
            weights(format, &mut bytes);
            let mut guarded =
                Guarded::new(bytes.len() + 64, &format!("tramontane-at-{format}-{blocks}"));
            let largest = activations(6, cols, block_len);
            let expected = reference(format, cols, &bytes, &largest);
            let mut scratch: Vec<Scratch> = tiers.iter().map(|_| Scratch::default()).collect();
            for (batch, rows) in (1..=6).flat_map(|batch| ROWS.map(|rows| (batch, rows))) {
                let packed = packed(&first_rows(&largest, batch), &[format]);
                for gap in (0..64).step_by(step) {
                    let bytes = guarded.place(&bytes[..rows * row_bytes], gap);
                    starts.insert((format.name(), bytes.as_ptr().addr() % 64));
                    let weights = RowPanel { format, cols, rows, bytes, target };
                    for (i, (isa, packed)) in packed.iter().enumerate() {
                        check(*isa, &weights, packed, &mut scratch[i], &expected, 0);
                        calls[i] += 1;
                    }
                }
            }
        }
    }
    for (isa, calls) in tiers.iter().zip(&calls) {
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
