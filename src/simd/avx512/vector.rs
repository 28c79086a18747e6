//! Loads and the few shapes of shuffling that the kernels share.

use std::arch::x86_64::*;

use super::token::Avx512;

/// Bytes of a cache line.
pub(crate) const LINE: usize = 64;

/// One register in memory.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C, align(64))]
pub(crate) struct Line(pub [u32; 16]);

#[inline(always)]
pub(crate) fn put(_: Avx512, line: &mut Line, x: __m512i) {
    // SAFETY: the tier is proven; a line is 64 aligned bytes.
    unsafe { _mm512_store_si512(std::ptr::from_mut(line).cast(), x) }
}

/// 64 bytes of plain numbers.
#[inline(always)]
pub(crate) fn load64<T: Copy, const N: usize>(_: Avx512, x: &[T; N]) -> __m512i {
    const { assert!(size_of::<T>() * N == 64) };
    // SAFETY: the tier is proven; 64 bytes can be read from `x`.
    unsafe { _mm512_loadu_si512(x.as_ptr().cast()) }
}

/// 32 bytes of plain numbers.
#[inline(always)]
pub(crate) fn load32<T: Copy, const N: usize>(_: Avx512, x: &[T; N]) -> __m256i {
    const { assert!(size_of::<T>() * N == 32) };
    // SAFETY: the tier is proven; 32 bytes can be read from `x`.
    unsafe { _mm256_loadu_si256(x.as_ptr().cast()) }
}

/// 16 bytes of plain numbers.
#[inline(always)]
pub(crate) fn load16<T: Copy, const N: usize>(_: Avx512, x: &[T; N]) -> __m128i {
    const { assert!(size_of::<T>() * N == 16) };
    // SAFETY: the tier is proven; 16 bytes can be read from `x`.
    unsafe { _mm_loadu_si128(x.as_ptr().cast()) }
}

/// Asks for the cache line at `x`, which may lie anywhere.
#[inline(always)]
pub(crate) fn prefetch(_: Avx512, x: *const u8) {
    // SAFETY: the tier is proven; a prefetch does not fault at any address.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(x.cast()) }
}

/// Asks for the cache line at `x`, which may lie anywhere and will be written.
#[inline(always)]
pub(crate) fn prefetch_to_write<T>(_: Avx512, x: *const T) {
    // SAFETY: the tier is proven; a prefetch does not fault at any address.
    unsafe { _mm_prefetch::<_MM_HINT_ET0>(x.cast()) }
}

/// Asks for the cache lines of `len` bytes from `start` on, which may lie anywhere.
#[inline(always)]
pub(crate) fn prefetch_lines(simd: Avx512, start: *const u8, len: usize) {
    each_line::<_MM_HINT_T0>(simd, start, len);
}

/// The same, in the L2 cache.
#[inline(always)]
pub(crate) fn lines_to_l2(simd: Avx512, start: *const u8, len: usize) {
    each_line::<_MM_HINT_T1>(simd, start, len);
}

#[inline(always)]
fn each_line<const HINT: i32>(_: Avx512, start: *const u8, len: usize) {
    let mut at = 0;
    while at < len {
        // SAFETY: the tier is proven; a prefetch does not fault at any address.
        unsafe { _mm_prefetch::<HINT>(start.wrapping_add(at).cast()) }
        at += LINE;
    }
}

/// 16 bytes of each of four places, in order.
#[inline(always)]
pub(crate) fn load_four<T: Copy, const N: usize>(simd: Avx512, x: [&[T; N]; 4]) -> __m512i {
    // SAFETY: `simd` proves the features.
    unsafe {
        let low = _mm256_inserti128_si256::<1>(
            _mm256_castsi128_si256(load16(simd, x[0])),
            load16(simd, x[1]),
        );
        let high = _mm256_inserti128_si256::<1>(
            _mm256_castsi128_si256(load16(simd, x[2])),
            load16(simd, x[3]),
        );
        _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high)
    }
}

/// The sums of four vectors' lanes, one per lane of the result.
#[inline(always)]
pub(crate) fn sum_each(_: Avx512, v: [__m512i; 4]) -> __m128i {
    // SAFETY: `simd` proves the features.
    unsafe {
        // Within each 128 bits: pairs, then pairs of pairs, of two and four vectors.
        let a =
            _mm512_add_epi32(_mm512_unpacklo_epi32(v[0], v[1]), _mm512_unpackhi_epi32(v[0], v[1]));
        let b =
            _mm512_add_epi32(_mm512_unpacklo_epi32(v[2], v[3]), _mm512_unpackhi_epi32(v[2], v[3]));
        let c = _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
        let d = _mm256_add_epi32(_mm512_castsi512_si256(c), _mm512_extracti64x4_epi64::<1>(c));
        _mm_add_epi32(_mm256_castsi256_si128(d), _mm256_extracti128_si256::<1>(d))
    }
}

/// The sum of each 128 bits' four lanes, one per lane of the result.
#[inline(always)]
pub(crate) fn sum_quarters(_: Avx512, v: __m512i) -> __m128i {
    // SAFETY: `simd` proves the features.
    unsafe {
        let pairs = _mm512_add_epi32(v, _mm512_shuffle_epi32::<0b10_11_00_01>(v));
        let all = _mm512_add_epi32(pairs, _mm512_shuffle_epi32::<0b01_00_11_10>(pairs));
        let diagonal = _mm512_setr_epi32(0, 5, 10, 15, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
        _mm512_castsi512_si128(_mm512_permutexvar_epi32(diagonal, all))
    }
}

/// `sum + Σ a · b` of the two words of each lane: the instruction as it is. Of the
/// intrinsic LLVM makes a multiplication and an addition wherever that shortens a chain.
#[target_feature(enable = "avx512f,avx512vnni")]
#[inline]
pub(crate) fn dpwssd(mut sum: __m512i, a: __m512i, b: __m512i) -> __m512i {
    // SAFETY: the function has the features; the instruction touches its registers only.
    unsafe {
        std::arch::asm!(
            "vpdpwssd {sum}, {a}, {b}",
            sum = inout(zmm_reg) sum,
            a = in(zmm_reg) a,
            b = in(zmm_reg) b,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sum
}

/// Turns four rows of 128-bit lanes into columns.
#[inline(always)]
pub(crate) fn transpose4(_: Avx512, r: [__m512i; 4]) -> [__m512i; 4] {
    // SAFETY: the tier is proven.
    unsafe {
        let a = _mm512_shuffle_i32x4::<0b10_00_10_00>(r[0], r[1]);
        let b = _mm512_shuffle_i32x4::<0b11_01_11_01>(r[0], r[1]);
        let c = _mm512_shuffle_i32x4::<0b10_00_10_00>(r[2], r[3]);
        let d = _mm512_shuffle_i32x4::<0b11_01_11_01>(r[2], r[3]);
        [
            _mm512_shuffle_i32x4::<0b10_00_10_00>(a, c),
            _mm512_shuffle_i32x4::<0b10_00_10_00>(b, d),
            _mm512_shuffle_i32x4::<0b11_01_11_01>(a, c),
            _mm512_shuffle_i32x4::<0b11_01_11_01>(b, d),
        ]
    }
}

/// Of 16 rows, four to a register, each 128 bits: register q holds lane q of all.
#[inline(always)]
pub(crate) fn quarters(simd: Avx512, v: [__m512i; 4]) -> [__m512i; 4] {
    // SAFETY: the tier is proven.
    let by_lane = unsafe {
        let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
        [
            _mm512_permutexvar_epi32(order, v[0]),
            _mm512_permutexvar_epi32(order, v[1]),
            _mm512_permutexvar_epi32(order, v[2]),
            _mm512_permutexvar_epi32(order, v[3]),
        ]
    };
    transpose4(simd, by_lane)
}

/// Turns 16 rows of 16 lanes into 16 columns.
#[inline(always)]
pub(crate) fn transpose(_: Avx512, r: [__m512i; 16]) -> [__m512i; 16] {
    // SAFETY: `simd` proves the features.
    unsafe {
        let zero = _mm512_setzero_si512();
        let (mut a, mut b) = ([zero; 16], [zero; 16]);
        for i in 0..8 {
            a[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
            a[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
        }
        // b[4i + j]: column 4q + j of rows 4i .. 4i + 4 in quarter q.
        for i in 0..4 {
            b[4 * i] = _mm512_unpacklo_epi64(a[4 * i], a[4 * i + 2]);
            b[4 * i + 1] = _mm512_unpackhi_epi64(a[4 * i], a[4 * i + 2]);
            b[4 * i + 2] = _mm512_unpacklo_epi64(a[4 * i + 1], a[4 * i + 3]);
            b[4 * i + 3] = _mm512_unpackhi_epi64(a[4 * i + 1], a[4 * i + 3]);
        }
        let mut out = [zero; 16];
        for j in 0..4 {
            let even_low = _mm512_shuffle_i32x4::<0b10_00_10_00>(b[j], b[4 + j]);
            let odd_low = _mm512_shuffle_i32x4::<0b11_01_11_01>(b[j], b[4 + j]);
            let even_high = _mm512_shuffle_i32x4::<0b10_00_10_00>(b[8 + j], b[12 + j]);
            let odd_high = _mm512_shuffle_i32x4::<0b11_01_11_01>(b[8 + j], b[12 + j]);
            out[j] = _mm512_shuffle_i32x4::<0b10_00_10_00>(even_low, even_high);
            out[8 + j] = _mm512_shuffle_i32x4::<0b11_01_11_01>(even_low, even_high);
            out[4 + j] = _mm512_shuffle_i32x4::<0b10_00_10_00>(odd_low, odd_high);
            out[12 + j] = _mm512_shuffle_i32x4::<0b11_01_11_01>(odd_low, odd_high);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lanes(v: __m512i) -> [i32; 16] {
        // SAFETY: both are 64 bytes of which every pattern is valid.
        unsafe { std::mem::transmute(v) }
    }

    #[test]
    fn transpose_and_sums_move_every_lane_to_its_place() {
        // Which tiers ran is printed and checked by `tests/logits.rs`.
        let Some(simd) = Avx512::new() else { return };
        let row = |r: i32| -> [i32; 16] { std::array::from_fn(|c| 100 * r + c as i32) };
        // SAFETY: the tier was just found; `row` gives 64 bytes.
        let (columns, sums, quarters) = unsafe {
            let vector = |r| _mm512_loadu_si512(row(r).as_ptr().cast());
            let rows: [__m512i; 16] = std::array::from_fn(|r| vector(r as i32));
            (
                transpose(simd, rows),
                sum_each(simd, [rows[1], rows[2], rows[3], rows[4]]),
                sum_quarters(simd, rows[5]),
            )
        };
        for (c, column) in columns.into_iter().enumerate() {
            let expected: [i32; 16] = std::array::from_fn(|r| (100 * r + c) as i32);
            assert_eq!(lanes(column), expected);
        }
        // SAFETY: both are 16 bytes of which every pattern is valid.
        let four = |v: __m128i| -> [i32; 4] { unsafe { std::mem::transmute(v) } };
        assert_eq!(four(sums), [1, 2, 3, 4].map(|r| -> i32 { row(r).iter().sum() }));
        let quarter = |q: usize| -> i32 { row(5)[4 * q..4 * q + 4].iter().sum() };
        assert_eq!(four(quarters), [quarter(0), quarter(1), quarter(2), quarter(3)]);
    }
}
