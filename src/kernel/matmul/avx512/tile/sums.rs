//! The sums of a tile between its steps, and the lines of a panel.

#![allow(clippy::needless_range_loop, reason = "m and r index several arrays at once")]

use std::arch::x86_64::*;

use crate::kernel::matmul::row_panel::RowPanel;
use crate::simd::avx512::{Avx512, Line};

/// # Safety
/// There are more than `at` lines.
#[inline(always)]
pub(super) unsafe fn line(_: Avx512, lines: *const Line, at: usize) -> __m512i {
    // SAFETY: the caller's promise.
    unsafe { _mm512_load_si512(lines.add(at).cast()) }
}

/// The sums so far: zeros at the start of the rows.
///
/// # Safety
/// `out` holds `M` rows of [`RowPanel::ROWS`] floats.
#[inline(always)]
pub(super) unsafe fn load<const M: usize>(_: Avx512, start: bool, out: &[f32]) -> [[__m512; 2]; M] {
    // SAFETY: the tier is proven; the caller's promise.
    unsafe {
        let mut acc = [[_mm512_setzero_ps(); 2]; M];
        if !start {
            for m in 0..M {
                for r in 0..2 {
                    acc[m][r] = _mm512_loadu_ps(out.as_ptr().add(m * RowPanel::ROWS + 16 * r));
                }
            }
        }
        acc
    }
}

/// # Safety
/// `out` holds `M` rows of [`RowPanel::ROWS`] floats.
#[inline(always)]
pub(super) unsafe fn store<const M: usize>(_: Avx512, acc: [[__m512; 2]; M], out: &mut [f32]) {
    for (m, acc) in acc.into_iter().enumerate() {
        for (r, acc) in acc.into_iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe { _mm512_storeu_ps(out.as_mut_ptr().add(m * RowPanel::ROWS + 16 * r), acc) };
        }
    }
}
