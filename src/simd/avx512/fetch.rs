//! How weights that are decoded in place are fetched ahead of their use.
//!
//! Every line that a core waits for takes one of a few buffers: 10 to 24 before L1, two to
//! four times as many behind L2. Intel's cores come closer to filling the latter when far
//! lines are asked for in L2 only and once more, in L1, shortly before their use: decode
//! × 1.05 with two threads, 1.14 with one. When the buffers behind L2 are full, requests for
//! far lines wait in those before L1 and hold up all that misses L1. So they come after the
//! near ones, and both after what is read in the meantime: × 1.05 beside a busy hyperthread
//! (the other order 0.9).
//!
//! Zen 5 is fastest with one step into L1, a few lines at a time, and loses with every other
//! hint (figures in `docs/lab/decode.md`).

use std::ops::Range;

use super::token::Avx512;
use super::vector::{LINE, lines_to_l2, prefetch, prefetch_lines};

/// How far ahead of their use lines are asked for, in bytes. Measured on a whole model, Zen
/// 5, two threads: 2 KiB 0.81, 4 KiB 0.86, 6 KiB 0.93, 8 KiB 0.98, 10 to 12 KiB 1.00 of a
/// plain read. In two steps 8 to 32 KiB are equal.
pub(crate) const AHEAD: usize = 12288;

/// How far ahead of their use lines go from L2 to L1, in bytes.
pub(crate) const NEAR: usize = 4096;

impl Avx512 {
    /// While weights are read: asks for the lines of `part` of what starts at `far`, where
    /// one step is best. Parts that are neighbours ask for no line twice.
    #[inline(always)]
    pub fn fetch_during(self, far: *const u8, part: Range<usize>) {
        if !self.two_steps() {
            let first = part.start.next_multiple_of(LINE);
            prefetch_lines(self, far.wrapping_add(first), part.end.saturating_sub(first));
        }
    }

    /// After weights were read: asks for the lines of `len` bytes from `near` on, used soon,
    /// and from `far` on, where two steps are best.
    #[inline(always)]
    pub fn fetch_after(self, near: *const u8, far: *const u8, len: usize) {
        if self.two_steps() {
            prefetch_lines(self, near, len);
            lines_to_l2(self, far, len);
        }
    }

    /// Asks for the line of `far`, used much later, and for that of `near`, used soon.
    #[inline(always)]
    pub(super) fn fetch_stream(self, far: *const u8, near: *const u8) {
        if self.two_steps() {
            prefetch(self, near);
        }
        self.fetch_lines(far, 1);
    }

    /// Asks for the lines of `len` bytes from `start` on, which may lie anywhere and are
    /// used much later.
    #[inline(always)]
    pub fn fetch_lines(self, start: *const u8, len: usize) {
        if self.two_steps() {
            lines_to_l2(self, start, len);
        } else {
            prefetch_lines(self, start, len);
        }
    }
}
