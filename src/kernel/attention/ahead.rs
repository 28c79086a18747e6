//! Fetching of what attention reads next.

use crate::kv_cache::{Head, HeadShape};
use crate::simd::Simd;

/// How far ahead of their use codes are fetched, in bytes.
const AHEAD: usize = 12 << 10;

/// What is fetched from memory while a page is worked on, evenly and in the order
/// of memory: as many bytes as the page has.
#[derive(Debug)]
pub(super) struct Ahead {
    /// Null: nothing is fetched.
    next: *const u8,
    /// Bytes for each line of the products.
    of_line: usize,
    /// Bytes for each query of the first tile, beside those.
    rest: usize,
}

impl Default for Ahead {
    fn default() -> Self {
        Ahead { next: std::ptr::null(), of_line: 0, rest: 0 }
    }
}

impl Ahead {
    /// While a page of `head` is worked on, `queries` queries at a time.
    pub fn of(shape: HeadShape, head: Head<'_>, next: Option<Head<'_>>, queries: usize) -> Self {
        let of_line = shape.bytes() / (2 * shape.lines()) / 32 * 32;
        let rest = (shape.bytes() - of_line * 2 * shape.lines()) / queries;
        let next = match (head, next) {
            // Pages of a head lie one after the other, most of them.
            (Head::I16(head), _) => {
                std::ptr::from_ref(head.scales).cast::<u8>().wrapping_add(AHEAD)
            }
            // A page is read at once, to be unpacked.
            (_, Some(Head::Q8_0 { codes, .. })) => std::ptr::from_ref(codes.scales).cast(),
            _ => std::ptr::null(),
        };
        Ahead { next, of_line, rest }
    }

    #[inline(always)]
    pub fn fetch<S: Simd>(&mut self, simd: S, lines: usize) {
        if !self.next.is_null() {
            for i in 0..lines {
                simd.prefetch(self.next.wrapping_add(i * self.of_line));
            }
            self.next = self.next.wrapping_add(lines * self.of_line);
        }
    }

    #[inline(always)]
    pub fn fetch_rest<S: Simd>(&mut self, simd: S) {
        if !self.next.is_null() {
            for at in (0..self.rest).step_by(64) {
                simd.prefetch(self.next.wrapping_add(at));
            }
            self.next = self.next.wrapping_add(self.rest);
        }
    }
}
