//! The AVX-512 intrinsics that the kernels use, as scalar code from Intel's pseudocode.
//!
//! `.ci/avx512/run` puts this file in the place of `std::arch::x86_64` in a copy of the
//! sources, so that the AVX-512 and AMX kernels run, slowly, on a CPU without either. Their
//! tests compare them with the scalar reference: this file checks the kernels' logic, not
//! the instructions.
//!
//! Upper parts that an intrinsic leaves undefined are filled with a pattern, so that code
//! that relies on them fails.
#![allow(non_camel_case_types, unused, missing_docs, clippy::all)]

use std::array::from_fn;
use std::mem::transmute;

pub use std::arch::x86_64::*;

#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub struct __m512i([u8; 64]);

#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub struct __m512([f32; 16]);

const UNDEFINED: u8 = 0xa5;

macro_rules! views {
    ($($to:ident $from:ident $lane:ty, $n:literal;)*) => { $(
        #[inline]
        fn $to(a: __m512i) -> [$lane; $n] {
            unsafe { transmute(a) }
        }
        #[inline]
        fn $from(a: [$lane; $n]) -> __m512i {
            unsafe { transmute(a) }
        }
    )* };
}
views! {
    u8s of_u8s u8, 64; i8s of_i8s i8, 64; i16s of_i16s i16, 32; u16s of_u16s u16, 32;
    i32s of_i32s i32, 16; u32s of_u32s u32, 16; i64s of_i64s i64, 8; u64s of_u64s u64, 8;
    quarters of_quarters [u8; 16], 4; halves of_halves [u8; 32], 2;
}
#[inline]
fn bytes16(a: __m128i) -> [u8; 16] {
    unsafe { transmute(a) }
}
#[inline]
fn bytes32(a: __m256i) -> [u8; 32] {
    unsafe { transmute(a) }
}
#[inline]
fn m128i(a: [u8; 16]) -> __m128i {
    unsafe { transmute(a) }
}
#[inline]
fn m256i(a: [u8; 32]) -> __m256i {
    unsafe { transmute(a) }
}
#[inline]
fn ps(a: __m512i) -> __m512 {
    unsafe { transmute(a) }
}
#[inline]
fn si(a: __m512) -> __m512i {
    unsafe { transmute(a) }
}

// Loads, stores, constants.

#[inline]
pub unsafe fn _mm512_loadu_si512(p: *const __m512i) -> __m512i {
    unsafe { p.read_unaligned() }
}
#[inline]
pub unsafe fn _mm512_load_si512(p: *const __m512i) -> __m512i {
    assert!(p.is_aligned(), "an aligned load of {p:?}");
    unsafe { p.read() }
}
#[inline]
pub unsafe fn _mm512_storeu_si512(p: *mut __m512i, a: __m512i) {
    unsafe { p.write_unaligned(a) }
}
#[inline]
pub unsafe fn _mm512_store_si512(p: *mut __m512i, a: __m512i) {
    assert!(p.is_aligned(), "an aligned store to {p:?}");
    unsafe { p.write(a) }
}
#[inline]
pub unsafe fn _mm512_loadu_ps(p: *const f32) -> __m512 {
    unsafe { p.cast::<__m512>().read_unaligned() }
}
#[inline]
pub unsafe fn _mm512_storeu_ps(p: *mut f32, a: __m512) {
    unsafe { p.cast::<__m512>().write_unaligned(a) }
}
#[inline]
pub fn _mm512_setzero_si512() -> __m512i {
    __m512i([0; 64])
}
#[inline]
pub fn _mm512_setzero_ps() -> __m512 {
    __m512([0.0; 16])
}
#[inline]
pub fn _mm512_set1_epi8(a: i8) -> __m512i {
    of_i8s([a; 64])
}
#[inline]
pub fn _mm512_set1_epi16(a: i16) -> __m512i {
    of_i16s([a; 32])
}
#[inline]
pub fn _mm512_set1_epi32(a: i32) -> __m512i {
    of_i32s([a; 16])
}
#[inline]
pub fn _mm512_set1_epi64(a: i64) -> __m512i {
    of_i64s([a; 8])
}
#[inline]
pub fn _mm512_set1_ps(a: f32) -> __m512 {
    __m512([a; 16])
}
#[inline]
pub fn _mm512_maskz_set1_epi8(k: __mmask64, a: i8) -> __m512i {
    of_i8s(from_fn(|i| if k >> i & 1 == 1 { a } else { 0 }))
}
#[inline]
pub fn _mm512_setr_epi32(
    a: i32, b: i32, c: i32, d: i32, e: i32, f: i32, g: i32, h: i32,
    i: i32, j: i32, k: i32, l: i32, m: i32, n: i32, o: i32, p: i32,
) -> __m512i {
    of_i32s([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p])
}
#[inline]
pub fn _mm512_set_epi32(
    p: i32, o: i32, n: i32, m: i32, l: i32, k: i32, j: i32, i: i32,
    h: i32, g: i32, f: i32, e: i32, d: i32, c: i32, b: i32, a: i32,
) -> __m512i {
    of_i32s([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p])
}
#[inline]
pub fn _mm512_setr_epi64(
    a: i64, b: i64, c: i64, d: i64, e: i64, f: i64, g: i64, h: i64,
) -> __m512i {
    of_i64s([a, b, c, d, e, f, g, h])
}
#[inline]
pub fn _mm512_setr4_epi32(d: i32, c: i32, b: i32, a: i32) -> __m512i {
    of_i32s(from_fn(|i| [d, c, b, a][i % 4]))
}
#[inline]
pub fn _mm512_set4_epi64(d: i64, c: i64, b: i64, a: i64) -> __m512i {
    of_i64s(from_fn(|i| [a, b, c, d][i % 4]))
}

// Casts, parts.

#[inline]
pub fn _mm512_castsi512_ps(a: __m512i) -> __m512 {
    ps(a)
}
#[inline]
pub fn _mm512_castps_si512(a: __m512) -> __m512i {
    si(a)
}
#[inline]
pub fn _mm512_castsi256_si512(a: __m256i) -> __m512i {
    of_halves([bytes32(a), [UNDEFINED; 32]])
}
#[inline]
pub fn _mm512_castps128_ps512(a: __m128) -> __m512 {
    let undefined = [UNDEFINED; 16];
    ps(of_quarters([unsafe { transmute(a) }, undefined, undefined, undefined]))
}
#[inline]
pub fn _mm512_zextsi256_si512(a: __m256i) -> __m512i {
    of_halves([bytes32(a), [0; 32]])
}
#[inline]
pub fn _mm512_castsi512_si256(a: __m512i) -> __m256i {
    m256i(halves(a)[0])
}
#[inline]
pub fn _mm512_castsi512_si128(a: __m512i) -> __m128i {
    m128i(quarters(a)[0])
}
#[inline]
pub fn _mm512_castps512_ps256(a: __m512) -> __m256 {
    unsafe { transmute(halves(si(a))[0]) }
}
#[inline]
pub fn _mm512_castps512_ps128(a: __m512) -> __m128 {
    unsafe { transmute(quarters(si(a))[0]) }
}
#[inline]
pub fn _mm512_extracti64x4_epi64<const I: i32>(a: __m512i) -> __m256i {
    m256i(halves(a)[I as usize])
}
#[inline]
pub fn _mm512_extractf32x8_ps<const I: i32>(a: __m512) -> __m256 {
    unsafe { transmute(halves(si(a))[I as usize]) }
}
#[inline]
pub fn _mm512_extracti32x4_epi32<const I: i32>(a: __m512i) -> __m128i {
    m128i(quarters(a)[I as usize])
}
#[inline]
pub fn _mm512_extractf32x4_ps<const I: i32>(a: __m512) -> __m128 {
    unsafe { transmute(quarters(si(a))[I as usize]) }
}
#[inline]
pub fn _mm512_inserti64x4<const I: i32>(a: __m512i, b: __m256i) -> __m512i {
    let mut parts = halves(a);
    parts[I as usize] = bytes32(b);
    of_halves(parts)
}
#[inline]
pub fn _mm512_insertf32x4<const I: i32>(a: __m512, b: __m128) -> __m512 {
    let mut parts = quarters(si(a));
    parts[I as usize] = unsafe { transmute(b) };
    ps(of_quarters(parts))
}
#[inline]
pub fn _mm512_broadcast_i32x4(a: __m128i) -> __m512i {
    of_quarters([bytes16(a); 4])
}
#[inline]
pub fn _mm512_mask_broadcast_i32x4(src: __m512i, k: __mmask16, a: __m128i) -> __m512i {
    let (src, a) = (i32s(src), i32s(_mm512_broadcast_i32x4(a)));
    of_i32s(from_fn(|i| if k >> i & 1 == 1 { a[i] } else { src[i] }))
}
#[inline]
pub fn _mm512_broadcast_i64x4(a: __m256i) -> __m512i {
    of_halves([bytes32(a); 2])
}

// Shuffles.

macro_rules! unpack {
    ($($low:ident $high:ident $to:ident $from:ident $n:literal;)*) => { $(
        #[inline]
        pub fn $low(a: __m512i, b: __m512i) -> __m512i {
            let (a, b) = ($to(a), $to(b));
            $from(from_fn(|i| {
                let (lane, at) = (i / $n * $n, i % $n);
                if at % 2 == 0 { a[lane + at / 2] } else { b[lane + at / 2] }
            }))
        }
        #[inline]
        pub fn $high(a: __m512i, b: __m512i) -> __m512i {
            let (a, b) = ($to(a), $to(b));
            $from(from_fn(|i| {
                let (lane, at) = (i / $n * $n + $n / 2, i % $n);
                if at % 2 == 0 { a[lane + at / 2] } else { b[lane + at / 2] }
            }))
        }
    )* };
}
unpack! {
    _mm512_unpacklo_epi16 _mm512_unpackhi_epi16 i16s of_i16s 8;
    _mm512_unpacklo_epi32 _mm512_unpackhi_epi32 i32s of_i32s 4;
    _mm512_unpacklo_epi64 _mm512_unpackhi_epi64 i64s of_i64s 2;
}
#[inline]
fn select(imm: i32, i: usize) -> usize {
    (imm >> (2 * i)) as usize & 3
}
#[inline]
pub fn _mm512_shuffle_epi32<const M: i32>(a: __m512i) -> __m512i {
    let a = i32s(a);
    of_i32s(from_fn(|i| a[i / 4 * 4 + select(M, i % 4)]))
}
#[inline]
pub fn _mm512_permute_ps<const M: i32>(a: __m512) -> __m512 {
    ps(_mm512_shuffle_epi32::<M>(si(a)))
}
#[inline]
pub fn _mm512_movehdup_ps(a: __m512) -> __m512 {
    ps(_mm512_shuffle_epi32::<0b11_11_01_01>(si(a)))
}
#[inline]
pub fn _mm512_shuffle_ps<const M: i32>(a: __m512, b: __m512) -> __m512 {
    __m512(from_fn(|i| {
        let from = if i % 4 < 2 { &a } else { &b };
        from.0[i / 4 * 4 + select(M, i % 4)]
    }))
}
#[inline]
pub fn _mm512_shuffle_i32x4<const M: i32>(a: __m512i, b: __m512i) -> __m512i {
    let (a, b) = (quarters(a), quarters(b));
    of_quarters(from_fn(|i| if i < 2 { a[select(M, i)] } else { b[select(M, i)] }))
}
#[inline]
pub fn _mm512_shuffle_f32x4<const M: i32>(a: __m512, b: __m512) -> __m512 {
    ps(_mm512_shuffle_i32x4::<M>(si(a), si(b)))
}
#[inline]
pub fn _mm512_shuffle_epi8(a: __m512i, b: __m512i) -> __m512i {
    let (a, b) = (u8s(a), u8s(b));
    of_u8s(from_fn(|i| if b[i] & 0x80 != 0 { 0 } else { a[i / 16 * 16 + (b[i] & 15) as usize] }))
}
#[inline]
pub fn _mm512_permutexvar_epi8(index: __m512i, a: __m512i) -> __m512i {
    let (index, a) = (u8s(index), u8s(a));
    of_u8s(from_fn(|i| a[(index[i] & 63) as usize]))
}
#[inline]
pub fn _mm512_mask_permutexvar_epi8(
    src: __m512i, k: __mmask64, index: __m512i, a: __m512i,
) -> __m512i {
    let (src, new) = (u8s(src), u8s(_mm512_permutexvar_epi8(index, a)));
    of_u8s(from_fn(|i| if k >> i & 1 == 1 { new[i] } else { src[i] }))
}
#[inline]
pub fn _mm512_permutexvar_epi16(index: __m512i, a: __m512i) -> __m512i {
    let (index, a) = (u16s(index), u16s(a));
    of_u16s(from_fn(|i| a[(index[i] & 31) as usize]))
}
#[inline]
pub fn _mm512_permutexvar_epi32(index: __m512i, a: __m512i) -> __m512i {
    let (index, a) = (u32s(index), u32s(a));
    of_u32s(from_fn(|i| a[(index[i] & 15) as usize]))
}
#[inline]
pub fn _mm512_permutexvar_ps(index: __m512i, a: __m512) -> __m512 {
    ps(_mm512_permutexvar_epi32(index, si(a)))
}
#[inline]
pub fn _mm512_maskz_mov_epi32(k: __mmask16, a: __m512i) -> __m512i {
    let a = i32s(a);
    of_i32s(from_fn(|i| if k >> i & 1 == 1 { a[i] } else { 0 }))
}
#[inline]
pub fn _mm512_mask_blend_epi16(k: __mmask32, a: __m512i, b: __m512i) -> __m512i {
    let (a, b) = (i16s(a), i16s(b));
    of_i16s(from_fn(|i| if k >> i & 1 == 1 { b[i] } else { a[i] }))
}
#[inline]
pub fn _mm512_maskz_compress_epi64(k: __mmask8, a: __m512i) -> __m512i {
    let (a, mut out, mut next) = (i64s(a), [0; 8], 0);
    for i in (0..8).filter(|i| k >> i & 1 == 1) {
        out[next] = a[i];
        next += 1;
    }
    of_i64s(out)
}

// Bits.

#[inline]
pub fn _mm512_and_si512(a: __m512i, b: __m512i) -> __m512i {
    __m512i(from_fn(|i| a.0[i] & b.0[i]))
}
#[inline]
pub fn _mm512_or_si512(a: __m512i, b: __m512i) -> __m512i {
    __m512i(from_fn(|i| a.0[i] | b.0[i]))
}
#[inline]
pub fn _mm512_xor_si512(a: __m512i, b: __m512i) -> __m512i {
    __m512i(from_fn(|i| a.0[i] ^ b.0[i]))
}
#[inline]
pub fn _mm512_ternarylogic_epi32<const T: i32>(a: __m512i, b: __m512i, c: __m512i) -> __m512i {
    __m512i(from_fn(|i| {
        let mut out = 0;
        for bit in 0..8 {
            let of = |x: u8| (x >> bit & 1) as i32;
            let index = of(a.0[i]) << 2 | of(b.0[i]) << 1 | of(c.0[i]);
            out |= ((T >> index & 1) as u8) << bit;
        }
        out
    }))
}
#[inline]
pub fn _mm512_srli_epi16<const N: u32>(a: __m512i) -> __m512i {
    of_u16s(u16s(a).map(|x| x.checked_shr(N).unwrap_or(0)))
}
#[inline]
pub fn _mm512_slli_epi16<const N: u32>(a: __m512i) -> __m512i {
    of_u16s(u16s(a).map(|x| x.checked_shl(N).unwrap_or(0)))
}
#[inline]
pub fn _mm512_srli_epi32<const N: u32>(a: __m512i) -> __m512i {
    of_u32s(u32s(a).map(|x| x.checked_shr(N).unwrap_or(0)))
}
#[inline]
pub fn _mm512_slli_epi32<const N: u32>(a: __m512i) -> __m512i {
    of_u32s(u32s(a).map(|x| x.checked_shl(N).unwrap_or(0)))
}
#[inline]
pub fn _mm512_srai_epi32<const N: u32>(a: __m512i) -> __m512i {
    of_i32s(i32s(a).map(|x| x >> N.min(31)))
}
#[inline]
pub fn _mm512_sll_epi32(a: __m512i, count: __m128i) -> __m512i {
    let count: [u64; 2] = unsafe { transmute(count) };
    of_u32s(u32s(a).map(|x| if count[0] > 31 { 0 } else { x << count[0] }))
}
#[inline]
pub fn _mm512_srlv_epi32(a: __m512i, count: __m512i) -> __m512i {
    let (a, count) = (u32s(a), u32s(count));
    of_u32s(from_fn(|i| a[i].checked_shr(count[i]).unwrap_or(0)))
}
#[inline]
pub fn _mm512_gf2p8affine_epi64_epi8<const B: i32>(x: __m512i, a: __m512i) -> __m512i {
    let (x, a) = (u8s(x), u8s(a));
    of_u8s(from_fn(|i| {
        let matrix = &a[i / 8 * 8..][..8];
        let bit = |b: usize| (matrix[7 - b] & x[i]).count_ones() as u8 & 1;
        (0..8).fold(B as u8, |out, b| out ^ bit(b) << b)
    }))
}

// Integers.

#[inline]
pub fn _mm512_add_epi32(a: __m512i, b: __m512i) -> __m512i {
    let (a, b) = (i32s(a), i32s(b));
    of_i32s(from_fn(|i| a[i].wrapping_add(b[i])))
}
#[inline]
pub fn _mm512_add_epi64(a: __m512i, b: __m512i) -> __m512i {
    let (a, b) = (i64s(a), i64s(b));
    of_i64s(from_fn(|i| a[i].wrapping_add(b[i])))
}
#[inline]
pub fn _mm512_sub_epi8(a: __m512i, b: __m512i) -> __m512i {
    let (a, b) = (i8s(a), i8s(b));
    of_i8s(from_fn(|i| a[i].wrapping_sub(b[i])))
}
#[inline]
pub fn _mm512_sub_epi16(a: __m512i, b: __m512i) -> __m512i {
    let (a, b) = (i16s(a), i16s(b));
    of_i16s(from_fn(|i| a[i].wrapping_sub(b[i])))
}
#[inline]
pub fn _mm512_sub_epi32(a: __m512i, b: __m512i) -> __m512i {
    let (a, b) = (i32s(a), i32s(b));
    of_i32s(from_fn(|i| a[i].wrapping_sub(b[i])))
}
#[inline]
pub fn _mm512_max_epi32(a: __m512i, b: __m512i) -> __m512i {
    let (a, b) = (i32s(a), i32s(b));
    of_i32s(from_fn(|i| a[i].max(b[i])))
}
#[inline]
pub fn _mm512_min_epi32(a: __m512i, b: __m512i) -> __m512i {
    let (a, b) = (i32s(a), i32s(b));
    of_i32s(from_fn(|i| a[i].min(b[i])))
}
#[inline]
pub fn _mm512_mullo_epi16(a: __m512i, b: __m512i) -> __m512i {
    let (a, b) = (i16s(a), i16s(b));
    of_i16s(from_fn(|i| a[i].wrapping_mul(b[i])))
}
#[inline]
pub fn _mm512_mullo_epi32(a: __m512i, b: __m512i) -> __m512i {
    let (a, b) = (i32s(a), i32s(b));
    of_i32s(from_fn(|i| a[i].wrapping_mul(b[i])))
}
#[inline]
pub fn _mm512_mulhrs_epi16(a: __m512i, b: __m512i) -> __m512i {
    let (a, b) = (i16s(a), i16s(b));
    of_i16s(from_fn(|i| (((i32::from(a[i]) * i32::from(b[i]) >> 14) + 1) >> 1) as i16))
}
#[inline]
pub fn _mm512_abs_epi8(a: __m512i) -> __m512i {
    of_i8s(i8s(a).map(i8::wrapping_abs))
}
#[inline]
pub fn _mm512_madd_epi16(a: __m512i, b: __m512i) -> __m512i {
    _mm512_dpwssd_epi32(_mm512_setzero_si512(), a, b)
}
#[inline]
pub fn _mm512_sad_epu8(a: __m512i, b: __m512i) -> __m512i {
    let (a, b) = (u8s(a), u8s(b));
    of_u64s(from_fn(|i| (8 * i..8 * i + 8).map(|j| u64::from(a[j].abs_diff(b[j]))).sum()))
}
#[inline]
pub fn _mm512_packs_epi32(a: __m512i, b: __m512i) -> __m512i {
    let (a, b) = (i32s(a), i32s(b));
    of_i16s(from_fn(|i| {
        let (lane, at) = (i / 8 * 4, i % 8);
        let x = if at < 4 { a[lane + at] } else { b[lane + at - 4] };
        x.clamp(i16::MIN.into(), i16::MAX.into()) as i16
    }))
}
#[inline]
pub fn _mm512_dpbusd_epi32(sum: __m512i, a: __m512i, b: __m512i) -> __m512i {
    let (sum, a, b) = (i32s(sum), u8s(a), i8s(b));
    of_i32s(from_fn(|i| {
        let product = |j: usize| i32::from(a[j]) * i32::from(b[j]);
        (4 * i..4 * i + 4).fold(sum[i], |sum, j| sum.wrapping_add(product(j)))
    }))
}
#[inline]
pub fn _mm512_dpwssd_epi32(sum: __m512i, a: __m512i, b: __m512i) -> __m512i {
    let (sum, a, b) = (i32s(sum), i16s(a), i16s(b));
    of_i32s(from_fn(|i| {
        let product = |j: usize| i32::from(a[j]) * i32::from(b[j]);
        sum[i].wrapping_add(product(2 * i)).wrapping_add(product(2 * i + 1))
    }))
}
#[inline]
pub fn _mm256_dpwssd_epi32(sum: __m256i, a: __m256i, b: __m256i) -> __m256i {
    let wide = _mm512_zextsi256_si512;
    _mm512_castsi512_si256(_mm512_dpwssd_epi32(wide(sum), wide(a), wide(b)))
}

// Conversions.

#[inline]
pub fn _mm512_cvtepi8_epi16(a: __m256i) -> __m512i {
    let a: [i8; 32] = unsafe { transmute(a) };
    of_i16s(a.map(i16::from))
}
#[inline]
pub fn _mm512_cvtepi16_epi32(a: __m256i) -> __m512i {
    let a: [i16; 16] = unsafe { transmute(a) };
    of_i32s(a.map(i32::from))
}
#[inline]
pub fn _mm512_cvtepu16_epi32(a: __m256i) -> __m512i {
    let a: [u16; 16] = unsafe { transmute(a) };
    of_i32s(a.map(i32::from))
}
#[inline]
pub fn _mm512_cvtepi32_epi16(a: __m512i) -> __m256i {
    unsafe { transmute(i32s(a).map(|x| x as i16)) }
}
#[inline]
pub fn _mm512_cvtepi64_epi16(a: __m512i) -> __m128i {
    unsafe { transmute(i64s(a).map(|x| x as i16)) }
}
#[inline]
pub fn _mm512_cvtepi32_ps(a: __m512i) -> __m512 {
    __m512(i32s(a).map(|x| x as f32))
}
#[inline]
pub fn _mm512_cvtps_epi32(a: __m512) -> __m512i {
    of_i32s(a.0.map(|x| {
        let rounded = x.round_ties_even();
        let fits = rounded >= -2147483648.0 && rounded < 2147483648.0;
        if fits { rounded as i32 } else { i32::MIN }
    }))
}
#[inline]
pub fn _mm512_cvtph_ps(a: __m256i) -> __m512 {
    let a: [u16; 16] = unsafe { transmute(a) };
    __m512(a.map(|x| half::f16::from_bits(x).to_f32()))
}

// Floats.

#[inline]
fn lanes(a: __m512, b: __m512, f: impl Fn(f32, f32) -> f32) -> __m512 {
    __m512(from_fn(|i| f(a.0[i], b.0[i])))
}
#[inline]
pub fn _mm512_add_ps(a: __m512, b: __m512) -> __m512 {
    lanes(a, b, |a, b| a + b)
}
#[inline]
pub fn _mm512_mul_ps(a: __m512, b: __m512) -> __m512 {
    lanes(a, b, |a, b| a * b)
}
#[inline]
pub fn _mm512_div_ps(a: __m512, b: __m512) -> __m512 {
    lanes(a, b, |a, b| a / b)
}
#[inline]
pub fn _mm512_max_ps(a: __m512, b: __m512) -> __m512 {
    lanes(a, b, |a, b| if a > b { a } else { b })
}
#[inline]
pub fn _mm512_min_ps(a: __m512, b: __m512) -> __m512 {
    lanes(a, b, |a, b| if a < b { a } else { b })
}
#[inline]
pub fn _mm512_fmadd_ps(a: __m512, b: __m512, c: __m512) -> __m512 {
    __m512(from_fn(|i| a.0[i].mul_add(b.0[i], c.0[i])))
}
#[inline]
pub fn _mm512_fmsub_ps(a: __m512, b: __m512, c: __m512) -> __m512 {
    __m512(from_fn(|i| a.0[i].mul_add(b.0[i], -c.0[i])))
}
