//! AMX tiles in memory, in the place of `simd/avx512/tiles.rs`: see `intrinsics.rs`.
#![allow(missing_docs, clippy::all)]

use std::cell::RefCell;

use super::token::Avx512;

pub(crate) const ROW: usize = 64;
pub(crate) const ROWS: usize = 16;

/// Bytes of a row, rows, values.
#[derive(Clone, Copy)]
struct Tile {
    row: usize,
    rows: usize,
    bytes: [[u8; ROW]; ROWS],
}

thread_local! {
    /// `None` while nothing is configured.
    static TILES: RefCell<Option<[Tile; 8]>> = const { RefCell::new(None) };
}

fn with<R>(f: impl FnOnce(&mut [Tile; 8]) -> R) -> R {
    TILES.with_borrow_mut(|tiles| f(tiles.as_mut().expect("tiles are configured")))
}

#[derive(Debug)]
pub(crate) struct Tiles {
    _thread: std::marker::PhantomData<*mut ()>,
}

impl Tiles {
    pub fn configure(simd: Avx512) -> Option<Self> {
        Self::of(simd, false)
    }

    pub fn of_32_columns(simd: Avx512) -> Option<Self> {
        Self::of(simd, true)
    }

    fn of(simd: Avx512, half: bool) -> Option<Self> {
        if !simd.has_amx() {
            return None;
        }
        let tile = |t: usize| Tile {
            row: if half && (t == 4 || t == 5) { ROW / 2 } else { ROW },
            rows: if half && t >= 6 { ROWS / 2 } else { ROWS },
            bytes: [[0; ROW]; ROWS],
        };
        TILES.set(Some(std::array::from_fn(tile)));
        Some(Tiles { _thread: std::marker::PhantomData })
    }

    pub unsafe fn load<const T: u8>(&self, from: *const u8) {
        with(|tiles| {
            let tile = &mut tiles[T as usize];
            tile.bytes = [[0; ROW]; ROWS];
            for r in 0..tile.rows {
                for b in 0..tile.row {
                    tile.bytes[r][b] = unsafe { from.add(r * ROW + b).read() };
                }
            }
        });
    }

    pub unsafe fn store<const T: u8>(&self, to: *mut u8) {
        with(|tiles| {
            let tile = &tiles[T as usize];
            for r in 0..tile.rows {
                for b in 0..tile.row {
                    unsafe { to.add(r * ROW + b).write(tile.bytes[r][b]) };
                }
            }
        });
    }

    pub fn zero<const T: u8>(&self) {
        with(|tiles| tiles[T as usize].bytes = [[0; ROW]; ROWS]);
    }

    pub fn dpbusd<const C: u8, const A: u8, const B: u8>(&self) {
        product(C, A, B, |sum: i32, a: [u8; 4], b: [u8; 4]| {
            (0..4).fold(sum, |sum, i| sum.wrapping_add(i32::from(a[i]) * i32::from(b[i] as i8)))
        }, i32::from_le_bytes, i32::to_le_bytes);
    }

    pub fn dpbssd<const C: u8, const A: u8, const B: u8>(&self) {
        product(C, A, B, |sum: i32, a: [u8; 4], b: [u8; 4]| {
            let product = |i: usize| i32::from(a[i] as i8) * i32::from(b[i] as i8);
            (0..4).fold(sum, |sum, i| sum.wrapping_add(product(i)))
        }, i32::from_le_bytes, i32::to_le_bytes);
    }

    pub fn dpbf16ps<const C: u8, const A: u8, const B: u8>(&self) {
        let value = |low: u8, high: u8| f32::from_bits(u32::from_le_bytes([0, 0, low, high]));
        product(C, A, B, |sum: f32, a: [u8; 4], b: [u8; 4]| {
            sum + value(a[0], a[1]) * value(b[0], b[1]) + value(a[2], a[3]) * value(b[2], b[3])
        }, f32::from_le_bytes, f32::to_le_bytes);
    }
}

/// For each four bytes of a row of A and of a column of B: `step(sum, a, b)`.
fn product<S>(
    c: u8,
    a: u8,
    b: u8,
    step: impl Fn(S, [u8; 4], [u8; 4]) -> S,
    read: impl Fn([u8; 4]) -> S,
    write: impl Fn(S) -> [u8; 4],
) {
    with(|tiles| {
        let [c, a, b] = [c, a, b].map(usize::from);
        let (left, right) = (tiles[a], tiles[b]);
        assert_eq!(left.row / 4, right.rows, "A's columns are B's rows");
        assert_eq!((tiles[c].rows, tiles[c].row), (left.rows, right.row));
        for n in 0..left.rows {
            for m in 0..right.row / 4 {
                let four = |bytes: &[u8; ROW], at: usize| bytes.as_chunks::<4>().0[at];
                let mut sum = read(four(&tiles[c].bytes[n], m));
                for k in 0..left.row / 4 {
                    sum = step(sum, four(&left.bytes[n], k), four(&right.bytes[k], m));
                }
                tiles[c].bytes[n][4 * m..4 * m + 4].copy_from_slice(&write(sum));
            }
        }
    });
}

impl Drop for Tiles {
    fn drop(&mut self) {
        TILES.set(None);
    }
}

/// See the file that this one replaces.
pub(super) fn multiply_chains(tiles: &Tiles, rounds: usize) -> u64 {
    tiles.dpbusd::<0, 6, 7>();
    (ROWS * ROWS * ROW) as u64
}
