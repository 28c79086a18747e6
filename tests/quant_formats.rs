//! The storage formats against ggml's decoder, and against each other.

use proptest::prelude::*;
use sha2::{Digest, Sha256};
use tramontane::Error;
use tramontane::internal::quant::{
    self, ActivationRows, BlockDot, BlockFormat, Codes, Format, Scales, dequantize, dot_row,
};

/// Calls a generic function for each quantized format.
macro_rules! for_each_format {
    ($function:ident ( $($argument:expr),* )) => {{
        $function::<quant::Q4_0>($($argument),*);
        $function::<quant::Q4_1>($($argument),*);
        $function::<quant::Q5_0>($($argument),*);
        $function::<quant::Q5_1>($($argument),*);
        $function::<quant::Q8_0>($($argument),*);
        $function::<quant::Q2_K>($($argument),*);
        $function::<quant::Q3_K>($($argument),*);
        $function::<quant::Q4_K>($($argument),*);
        $function::<quant::Q5_K>($($argument),*);
        $function::<quant::Q6_K>($($argument),*);
        $function::<quant::IQ4_NL>($($argument),*);
        $function::<quant::IQ4_XS>($($argument),*);
        $function::<quant::MXFP4>($($argument),*);
        $function::<quant::IQ1_S>($($argument),*);
        $function::<quant::IQ1_M>($($argument),*);
        $function::<quant::IQ2_XXS>($($argument),*);
        $function::<quant::IQ2_XS>($($argument),*);
        $function::<quant::IQ2_S>($($argument),*);
        $function::<quant::IQ3_XXS>($($argument),*);
        $function::<quant::IQ3_S>($($argument),*);
        $function::<quant::TQ1_0>($($argument),*);
        $function::<quant::TQ2_0>($($argument),*);
    }};
}

fn read(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/data/quant/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn fixture(format: Format) -> Vec<u8> {
    read(&format!("blocks-{}.bin", format.name().to_lowercase()))
}

fn fixture_values(format: Format) -> Vec<f32> {
    let bytes = read(&format!("blocks-{}.f32", format.name().to_lowercase()));
    bytes.as_chunks().0.iter().map(|&value| f32::from_le_bytes(value)).collect()
}

fn decoded(format: Format, bytes: &[u8]) -> Vec<f32> {
    // NaN, so that a value that is not written does not look like one.
    let mut out = vec![f32::NAN; bytes.len() / format.block_bytes() * format.block_len()];
    dequantize(format, bytes, &mut out).unwrap_or_else(|error| panic!("{error}"));
    out
}

/// Equal bits, except that any NaN equals any other.
fn assert_bits(format: Format, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{format}");
    for (k, (f, e)) in found.iter().zip(expected).enumerate() {
        let same = f.to_bits() == e.to_bits() || f.is_nan() && e.is_nan();
        assert!(
            same,
            "{format} value {k}: {f:e} ({:#x}) != {e:e} ({:#x})",
            f.to_bits(),
            e.to_bits()
        );
    }
}

/// Small deterministic generator (splitmix64) for activations.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn code(&mut self) -> i8 {
        ((self.next() % 255) as i16 - 127) as i8
    }

    /// Uniform in −1..1.
    fn value(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}

/// A block as `unpack` describes it.
struct Unpacked {
    q: Vec<i8>,
    scale: Vec<i16>,
    min: Vec<i16>,
}

fn unpacked<F: BlockFormat>(block: &F::Block) -> Unpacked {
    // Painted with values that no format has, to catch what is not written.
    let mut out = Unpacked {
        q: vec![-128; F::LEN],
        scale: vec![i16::MIN; F::LEN / 16],
        min: vec![i16::MIN; F::LEN / 16],
    };
    F::unpack(block, Codes { q: &mut out.q, scale: &mut out.scale, min: &mut out.min });
    assert!(out.scale.iter().chain(&out.min).all(|&x| x != i16::MIN), "{}", F::FORMAT);
    out
}

/// The sums of a block in i64, from its unpacked form.
fn wide_dot(block: &Unpacked, a: &[i8]) -> (i64, i64) {
    let (mut isum, mut msum) = (0, 0);
    for (k, &a) in a.iter().enumerate() {
        isum += i64::from(block.scale[k / 16]) * i64::from(block.q[k]) * i64::from(a);
        msum += i64::from(block.min[k / 16]) * i64::from(a);
    }
    (isum, msum)
}

fn assert_dot<F: BlockFormat>(block: &F::Block, a: &[i8]) {
    let expected = wide_dot(&unpacked::<F>(block), a);
    let BlockDot { isum, msum } = F::dot(block, a);
    assert_eq!((i64::from(isum), i64::from(msum)), expected, "{}", F::FORMAT);
}

/// Activations that push the sums to their extremes for this block.
fn extreme_activations(block: &Unpacked) -> Vec<Vec<i8>> {
    let len = block.q.len();
    let sign = |k: usize| block.scale[k / 16].signum() as i8 * block.q[k].signum();
    vec![
        vec![127; len],
        vec![-127; len],
        (0..len).map(|k| if k % 2 == 0 { 127 } else { -127 }).collect(),
        (0..len).map(|k| 127 * sign(k)).collect(),
        (0..len).map(|k| -127 * sign(k)).collect(),
    ]
}

/// `unpack` and the formula of the module against `dequantize`.
fn assert_formula<F: BlockFormat>(block: &F::Block) {
    let Scales { d, dmin } = F::scales(block);
    if !F::HAS_MIN {
        assert_eq!(dmin, 0.0, "{}", F::FORMAT);
    }
    if !d.is_finite() || !dmin.is_finite() {
        return;
    }
    let mut values = vec![f32::NAN; F::LEN];
    F::dequantize(block, &mut values);
    let codes = unpacked::<F>(block);
    for (k, &value) in values.iter().enumerate() {
        let (scale, min) = (f64::from(codes.scale[k / 16]), f64::from(codes.min[k / 16]));
        let product = f64::from(d) * scale * f64::from(codes.q[k]);
        let offset = f64::from(dmin) * min;
        assert!(F::HAS_MIN || min == 0.0, "{}", F::FORMAT);
        // Two roundings of the product, one of the offset, one of the difference.
        let bound = 2.0 * f64::from(f32::EPSILON) * (product.abs() + offset.abs());
        let error = (product - offset - f64::from(value)).abs();
        // Powers of two reach beyond what f32 holds.
        let infinite = value.is_infinite() && value == (product - offset) as f32;
        assert!(
            infinite || error <= bound,
            "{} weight {k}: {value} != {product} - {offset}",
            F::FORMAT
        );
    }
}

/// Of the values of all blocks, where only the first 1,024 are stored.
const SHA256: [(Format, &str); 13] = [
    (Format::MXFP4, "062488fd24db8d7f57b0def1085c9a727ee9aed62a5882e0505bf521fafb21d1"),
    (Format::NVFP4, "476ce863c23b64135cfbefa49ffad70e31d5fdbb331212fc0966a113a2334a51"),
    (Format::IQ1_S, "1e9876ed54fd700830fece1557854e0339c9e5bac77bf75377ac7a444b6af7fc"),
    (Format::IQ1_M, "f2616240ad149dafb2ef04a34c4b89fe8d258127025005dad07934f2d2acbf18"),
    (Format::IQ2_XXS, "dd5cb19f932c29fb67c7b6e62ca1172c44cd0785cc167b28decb22dbcc43af5c"),
    (Format::IQ2_XS, "0d519478a45bea53c910c2663024fe69c2ec92c1b61b19b022bbf594a0dfd4e0"),
    (Format::IQ2_S, "a55fd6363cad6ae88b95c9b968347dd7cd21bb362e9fc2597c66f52dcd22f8ad"),
    (Format::IQ3_XXS, "21dc65d8d14f4eea793c8d63c4fd0c2e9860eca88408bba60063fb2a337c115a"),
    (Format::IQ3_S, "3b6f8188d1b4d67b1103ed309b22e67458d87cb19458a777e9edef9799f67eec"),
    (Format::TQ1_0, "11e6c46e47384affa95fe82a3d336d709605eb7d438037106b4b7765d021b117"),
    (Format::TQ2_0, "772562a0576442075b8d5af57bcab4827c15ceccf2fc0bc4916e97c71a46e05a"),
    (Format::Q1_0, "6c9b87426a2b769637296f3f0aa0f8991930ef934e01ddc5cb4a8a5a23bd03a1"),
    (Format::Q2_0, "82f5cbe2277d674cbb092dbc5ca2b675d55d263ff8f5e43fee6767f7dabf8077"),
];

fn is_float(format: Format) -> bool {
    matches!(format, Format::F32 | Format::F16 | Format::BF16)
}

#[test]
fn dequantize_equals_ggml() {
    for format in Format::ALL.into_iter().filter(|&format| !is_float(format)) {
        let (found, stored) = (decoded(format, &fixture(format)), fixture_values(format));
        assert_bits(format, &found[..stored.len()], &stored);
        if stored.len() < found.len() {
            let bytes: Vec<u8> = found.iter().flat_map(|value| value.to_le_bytes()).collect();
            let digest: String =
                Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
            assert!(SHA256.contains(&(format, &*digest)), "{format}: {digest}");
        }
    }
}

#[test]
fn f32_keeps_every_bit() {
    let patterns = (0..=0xffff_u32).map(|i| i << 16 | i.wrapping_mul(0x9e37) & 0xffff);
    let values: Vec<f32> = patterns.map(f32::from_bits).collect();
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    assert_bits(Format::F32, &decoded(Format::F32, &bytes), &values);
}

/// The value of a small float from the definition of the format, in f64.
fn small_float(bits: u16, exponent_bits: u32, mantissa_bits: u32) -> f32 {
    let bits = i32::from(bits);
    let mantissa = f64::from(bits & ((1 << mantissa_bits) - 1));
    let exponent = bits >> mantissa_bits & ((1 << exponent_bits) - 1);
    let bias = (1 << (exponent_bits - 1)) - 1;
    let fraction = mantissa / f64::from(1 << mantissa_bits);
    let magnitude = match exponent {
        0 => fraction * 2_f64.powi(1 - bias),
        e if e == 2 * bias + 1 && mantissa == 0.0 => f64::INFINITY,
        e if e == 2 * bias + 1 => f64::NAN,
        e => (1.0 + fraction) * 2_f64.powi(e - bias),
    };
    (if bits & 0x8000 == 0 { magnitude } else { -magnitude }) as f32
}

#[test]
fn every_f16_and_bf16_pattern() {
    let bytes: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
    for (format, exponent_bits, mantissa_bits) in [(Format::F16, 5, 10), (Format::BF16, 8, 7)] {
        let expected: Vec<f32> =
            (0..=u16::MAX).map(|bits| small_float(bits, exponent_bits, mantissa_bits)).collect();
        assert_bits(format, &decoded(format, &bytes), &expected);
    }
}

#[test]
fn wrong_sizes_are_misuse_and_change_nothing() {
    for format in Format::ALL {
        let bytes = vec![0; 2 * format.block_bytes()];
        for (len, cols) in [
            (bytes.len(), 2 * format.block_len() + 1),
            (bytes.len(), format.block_len()),
            (bytes.len() - 1, 2 * format.block_len()),
            (0, format.block_len()),
        ] {
            let mut out = vec![7.0; cols];
            let error = dequantize(format, &bytes[..len], &mut out).unwrap_err();
            assert!(matches!(error, Error::Misuse(_)), "{format}: {error}");
            assert!(out.iter().all(|&x| x == 7.0), "{format}");
        }
        dequantize(format, &[], &mut []).unwrap();
    }
}

fn check_table<F: BlockFormat>(seen: &mut Vec<Format>) {
    assert_eq!(F::LEN, F::FORMAT.block_len());
    assert_eq!(size_of::<F::Block>(), F::FORMAT.block_bytes(), "{}", F::FORMAT);
    assert_eq!(align_of::<F::Block>(), 1);
    assert_eq!(F::FORMAT.activation_block_len(), Some(F::LEN));
    seen.push(F::FORMAT);
}

#[test]
fn every_format_has_its_type() {
    let as_floats = |format: &Format| {
        is_float(*format) || matches!(format, Format::NVFP4 | Format::Q1_0 | Format::Q2_0)
    };
    let mut seen: Vec<Format> = Format::ALL.into_iter().filter(as_floats).collect();
    assert!(seen.iter().all(|format| format.activation_block_len().is_none()));
    for_each_format!(check_table(&mut seen));
    seen.sort();
    assert_eq!(seen, Format::ALL);
}

fn check_fixture_blocks<F: BlockFormat>() {
    let bytes = fixture(F::FORMAT);
    let blocks = F::blocks(&bytes);
    assert!(blocks.len() >= 64);
    let mut random = Random(1);
    for block in blocks {
        assert_formula::<F>(block);
        for a in extreme_activations(&unpacked::<F>(block)) {
            assert_dot::<F>(block, &a);
        }
        for _ in 0..4 {
            let a: Vec<i8> = (0..F::LEN).map(|_| random.code()).collect();
            assert_dot::<F>(block, &a);
        }
    }
}

#[test]
fn dot_equals_the_sums_of_unpack() {
    for_each_format!(check_fixture_blocks());
}

/// Blocks whose codes and scales are all at one of their extremes: every pair
/// of paints, since scales and codes lie before and after some byte. (Two cuts
/// would be needed if a field between others had to differ from both.)
fn worst_blocks<F: BlockFormat>() -> Vec<F::Block> {
    const PAINTS: [u8; 6] = [0x00, 0x3f, 0x55, 0x7f, 0x80, 0xff];
    let mut bytes = Vec::new();
    for (first, second) in PAINTS.iter().flat_map(|first| PAINTS.map(|second| (*first, second))) {
        for cut in 1..F::FORMAT.block_bytes() {
            let start = bytes.len();
            bytes.resize(start + F::FORMAT.block_bytes(), first);
            bytes[start + cut..].fill(second);
        }
    }
    F::blocks(&bytes).to_vec()
}

/// The largest |isum| and |msum| that any block of the format can have.
fn largest_sums(format: Format) -> (i64, i64) {
    let (scale, code, min) = match format {
        Format::Q4_0 => (1, 8, 0),
        Format::Q4_1 => (1, 15, 1),
        Format::Q5_0 => (1, 16, 0),
        Format::Q5_1 => (1, 31, 1),
        Format::Q8_0 => (1, 128, 0),
        Format::Q2_K => (15, 3, 15),
        Format::Q3_K => (32, 4, 0),
        Format::Q4_K => (63, 15, 63),
        Format::Q5_K => (63, 31, 63),
        Format::Q6_K => (128, 32, 0),
        Format::IQ4_NL => (1, 127, 0),
        Format::IQ4_XS => (32, 127, 0),
        Format::MXFP4 => (1, 12, 0),
        Format::IQ1_S | Format::IQ1_M => (15, 9, 0),
        Format::IQ2_XXS | Format::IQ2_XS | Format::IQ2_S => (31, 43, 0),
        Format::IQ3_XXS => (31, 62, 0),
        Format::IQ3_S => (31, 15, 0),
        Format::TQ1_0 => (1, 1, 0),
        Format::TQ2_0 => (1, 2, 0),
        _ => unreachable!("{format} has no integer sums"),
    };
    let len = format.block_len() as i64;
    (len * scale * code * 127, len * min * 127)
}

fn check_worst_sums<F: BlockFormat>() {
    let mut largest = (0, 0);
    for block in worst_blocks::<F>() {
        let codes = unpacked::<F>(&block);
        for a in extreme_activations(&codes) {
            assert_dot::<F>(&block, &a);
            let (isum, msum) = wide_dot(&codes, &a);
            largest = (largest.0.max(isum.abs()), largest.1.max(msum.abs()));
        }
    }
    let most = largest_sums(F::FORMAT);
    if matches!(F::FORMAT.name().split_at(3).0, "IQ1" | "IQ2" | "IQ3") {
        // The patterns take few points of a grid; no point has more.
        assert!(largest.0 <= most.0 && most.0 < 1 << 31, "{}: {largest:?}", F::FORMAT);
    } else {
        // The patterns do reach the worst case, so nothing larger can overflow.
        assert_eq!(largest, most, "{}", F::FORMAT);
    }
}

#[test]
fn worst_case_sums_do_not_overflow() {
    for_each_format!(check_worst_sums());
}

fn activations(rows: usize, cols: usize, block_len: usize, random: &mut Random) -> ActivationRows {
    let mut batch = ActivationRows::new(rows, cols, block_len);
    for mut row in batch.rows_mut() {
        let x: Vec<f32> = (0..cols).map(|_| random.value() * 3.0).collect();
        row.quantize(&x);
    }
    batch
}

#[test]
fn dot_row_approximates_the_dot_of_decoded_values() {
    let mut random = Random(2);
    for format in Format::ALL {
        let bytes = match is_float(format) {
            false => fixture(format),
            true => (0..1024).flat_map(|_| float_bytes(format, random.value())).collect(),
        };
        let block_len = format.activation_block_len().unwrap_or(32);
        let weights = decoded(format, &bytes);
        let batch = activations(1, weights.len(), block_len, &mut random);
        let row = batch.row(0);
        let (mut exact, mut size) = (0.0, 0.0);
        for (k, &w) in weights.iter().enumerate() {
            let product = f64::from(w) * f64::from(row.d[k / block_len]) * f64::from(row.q[k]);
            exact += product;
            size += product.abs();
        }
        let found = f64::from(dot_row(format, &bytes, row));
        let error = (found - exact).abs() / size;
        assert!(size > 0.0 && error < 1e-6, "{format}: {found} != {exact}, error {error:e}");
    }
}

fn float_bytes(format: Format, value: f32) -> Vec<u8> {
    match format {
        Format::F32 => value.to_le_bytes().to_vec(),
        // The upper half of an f32; as F16 bits it is some number below 2.
        _ => value.to_le_bytes()[2..].to_vec(),
    }
}

fn check_row_order<F: BlockFormat>() {
    let bytes = fixture(F::FORMAT);
    let batch = activations(1, F::blocks(&bytes).len() * F::LEN, F::LEN, &mut Random(3));
    let row = batch.row(0);
    let mut acc = 0.0_f32;
    for (b, block) in F::blocks(&bytes).iter().enumerate() {
        let Scales { d, dmin } = F::scales(block);
        let (isum, msum) = wide_dot(&unpacked::<F>(block), &row.q[b * F::LEN..][..F::LEN]);
        let t = (isum as f32).mul_add(d, -(msum as f32 * dmin));
        acc = t.mul_add(row.d[b], acc);
    }
    assert_bits(F::FORMAT, &[dot_row(F::FORMAT, &bytes, row)], &[acc]);
}

#[test]
fn dot_row_keeps_the_order_of_operations() {
    for_each_format!(check_row_order());
}

#[test]
#[should_panic(expected = "activations per scale for Q4_K")]
fn dot_row_refuses_the_other_block_length() {
    let batch = ActivationRows::new(1, 256, 32);
    dot_row(Format::Q4_K, &[0; 144], batch.row(0));
}

fn check_random_blocks<F: BlockFormat>(bytes: &[u8], a: &[i8]) {
    for block in F::blocks(bytes) {
        assert_formula::<F>(block);
        assert_dot::<F>(block, &a[..F::LEN]);
        // Scales of any kind: defined, and no panic.
        let mut out = vec![0.0; F::LEN];
        F::dequantize(block, &mut out);
    }
    // Every 16-bit field as NaN or infinity, wherever the scales are.
    for special in [0x7c00_u16, 0xfc00, 0x7e00, 0xffff] {
        for at in 0..F::FORMAT.block_bytes() - 1 {
            let mut bytes = bytes[..F::FORMAT.block_bytes()].to_vec();
            bytes[at..at + 2].copy_from_slice(&special.to_le_bytes());
            let block = &F::blocks(&bytes)[0];
            assert_formula::<F>(block);
            F::dequantize(block, &mut vec![0.0; F::LEN]);
        }
    }
}

proptest! {
    // A failing case belongs in a test of its own, not in a regressions file.
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]

    #[test]
    fn random_blocks(
        bytes in prop::collection::vec(any::<u8>(), 256..1024),
        a in prop::collection::vec(-127_i8..=127, 256),
    ) {
        for_each_format!(check_random_blocks(&bytes, &a));
    }
}
