//! AMX: eight registers of 16 rows × 64 bytes, and one instruction that multiplies two of
//! them. Sapphire Rapids and later, beside AVX-512.
//!
//! ```text
//! C[n][m] += Σ A[n][k] · B[k / 4][m][k % 4]     16 n, 16 m, 64 k: 16,384 multiply-adds
//! C[n][m] += Σ A[n][k] · B[k / 2][m][k % 2]     of bf16, 32 k
//! ```
//! A product starts every 16 cycles, which is 1,024 multiply-adds a cycle where two
//! `vpdpbusd` do 128; a load of a tile takes 8, a store 16. A lies row by row, B four
//! columns of 16 rows at a time; sums are exact in i32. Intel's manual, volume 2,
//! `TDPBUSD`, `TDPBSSD` and `TDPBF16PS`.
//!
//! Rust has no type for tiles, so a tile is a number in `asm!`. What is in one stays there
//! from one block to the next: the compiler has no values to put into tiles, no function
//! that is called between the first `zero` and the last `store` of a product uses them,
//! and blocks that are not `pure` stay in their order. [`Tiles`] stands for the
//! configuration that tiles need; while there is none, they cost nothing when the kernel
//! changes threads.

use std::arch::asm;

use super::token::Avx512;

/// Bytes of a row of a tile.
pub(crate) const ROW: usize = 64;
/// Rows of a tile.
pub(crate) const ROWS: usize = 16;

/// What `ldtilecfg` reads: palette 1; per tile bytes of a row as u16 from 16 on, rows from
/// 48 on.
#[repr(C, align(64))]
struct Configuration([u8; 64]);

impl Configuration {
    /// Full tiles, or with `half` of 4 to 7 those of [`Tiles::of_32_columns`].
    const fn new(half: bool) -> Self {
        let (mut bytes, mut tile) = ([0; 64], 0);
        bytes[0] = 1;
        while tile < 8 {
            bytes[16 + 2 * tile] =
                if half && (tile == 4 || tile == 5) { ROW / 2 } else { ROW } as u8;
            bytes[48 + tile] = if half && tile >= 6 { ROWS / 2 } else { ROWS } as u8;
            tile += 1;
        }
        Configuration(bytes)
    }
}

/// All eight tiles of this thread, until it is dropped. One at a time: a second one would
/// take them from the first.
#[derive(Debug)]
pub(crate) struct Tiles {
    /// Bound to the thread, whose tiles they are.
    _thread: std::marker::PhantomData<*mut ()>,
}

impl Tiles {
    /// All tiles in their full size. `None` without AMX.
    #[inline(always)]
    pub fn configure(simd: Avx512) -> Option<Self> {
        static FULL: Configuration = Configuration::new(false);
        Self::as_in(simd, &FULL)
    }

    /// For products of 32 columns: tiles 4 and 5 are A, of 32 bytes in a row, and 6 and 7 B,
    /// of 8 rows; the others are full. `None` without AMX.
    #[inline(always)]
    pub fn of_32_columns(simd: Avx512) -> Option<Self> {
        static HALF: Configuration = Configuration::new(true);
        Self::as_in(simd, &HALF)
    }

    #[inline(always)]
    fn as_in(simd: Avx512, configuration: &'static Configuration) -> Option<Self> {
        if !simd.has_amx() {
            return None;
        }
        // SAFETY: `has_amx` says that the process may use tiles; 64 bytes are read.
        unsafe {
            asm!("ldtilecfg [{}]", in(reg) configuration, options(nostack, readonly));
        }
        Some(Tiles { _thread: std::marker::PhantomData })
    }

    /// Tile `T` from `from`, where its rows are [`ROW`] bytes apart.
    ///
    /// # Safety
    /// They can be read: 1 KiB, of a tile of 8 rows half of that.
    #[inline(always)]
    pub unsafe fn load<const T: u8>(&self, from: *const u8) {
        const { assert!(T < 8) };
        // SAFETY: `self` says that tiles are configured; the caller's promise.
        unsafe {
            asm!(
                "tileloadd tmm{t}, [{from} + {row}]",
                t = const T, from = in(reg) from, row = in(reg) ROW,
                options(nostack, preserves_flags, readonly),
            );
        }
    }

    /// Tile `T` to 1 KiB at `to`.
    ///
    /// # Safety
    /// It can be written.
    #[inline(always)]
    pub unsafe fn store<const T: u8>(&self, to: *mut u8) {
        const { assert!(T < 8) };
        // SAFETY: `self` says that tiles are configured; the caller's promise.
        unsafe {
            asm!(
                "tilestored [{to} + {row}], tmm{t}",
                t = const T, to = in(reg) to, row = in(reg) ROW,
                options(nostack, preserves_flags),
            );
        }
    }

    /// Tile `T` is 0.
    #[inline(always)]
    pub fn zero<const T: u8>(&self) {
        const { assert!(T < 8) };
        // SAFETY: `self` says that tiles are configured.
        unsafe { asm!("tilezero tmm{t}", t = const T, options(nostack, preserves_flags, nomem)) }
    }

    /// C += A · B with unsigned A.
    #[inline(always)]
    pub fn dpbusd<const C: u8, const A: u8, const B: u8>(&self) {
        const { assert!(C < 8 && A < 8 && B < 8 && C != A && C != B && A != B) };
        // SAFETY: `self` says that tiles are configured.
        unsafe {
            asm!(
                "tdpbusd tmm{c}, tmm{a}, tmm{b}",
                c = const C, a = const A, b = const B,
                options(nostack, preserves_flags, nomem),
            );
        }
    }

    /// C += A · B, both signed.
    #[inline(always)]
    pub fn dpbssd<const C: u8, const A: u8, const B: u8>(&self) {
        const { assert!(C < 8 && A < 8 && B < 8 && C != A && C != B && A != B) };
        // SAFETY: `self` says that tiles are configured.
        unsafe {
            asm!(
                "tdpbssd tmm{c}, tmm{a}, tmm{b}",
                c = const C, a = const A, b = const B,
                options(nostack, preserves_flags, nomem),
            );
        }
    }

    /// C += A · B in bf16, with f32 sums.
    #[inline(always)]
    pub fn dpbf16ps<const C: u8, const A: u8, const B: u8>(&self) {
        const { assert!(C < 8 && A < 8 && B < 8 && C != A && C != B && A != B) };
        // SAFETY: `self` says that tiles are configured.
        unsafe {
            asm!(
                "tdpbf16ps tmm{c}, tmm{a}, tmm{b}",
                c = const C, a = const A, b = const B,
                options(nostack, preserves_flags, nomem),
            );
        }
    }
}

impl Drop for Tiles {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: `self` says that tiles are configured.
        unsafe { asm!("tilerelease", options(nostack, preserves_flags, nomem)) }
    }
}

/// Multiplies what is in the tiles for about `rounds` · 1,000 multiply-adds and returns how
/// many it did: for [`crate::machine`].
pub(super) fn multiply_chains(tiles: &Tiles, rounds: usize) -> u64 {
    const EACH: usize = ROWS * ROWS * ROW;
    tiles.zero::<6>();
    tiles.zero::<7>();
    let rounds = rounds.div_ceil(4 * EACH / 1000);
    for _ in 0..rounds {
        tiles.dpbusd::<0, 6, 7>();
        tiles.dpbusd::<1, 6, 7>();
        tiles.dpbusd::<2, 6, 7>();
        tiles.dpbusd::<3, 6, 7>();
    }
    (rounds * 4 * EACH) as u64
}
