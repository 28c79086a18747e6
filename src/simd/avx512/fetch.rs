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
//! hint (figures in `docs/performance.md`).

use std::arch::x86_64::__cpuid;
use std::ops::Range;
use std::sync::LazyLock;

use super::Avx512;
use super::vector::{LINE, lines_to_l2, prefetch, prefetch_lines};

/// The way of this CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fetch {
    /// Into L2 first, then into L1.
    two_steps: bool,
}

/// How far ahead of their use lines are asked for, in bytes. Measured on a whole model, Zen
/// 5, two threads: 2 KiB 0.81, 4 KiB 0.86, 6 KiB 0.93, 8 KiB 0.98, 10 to 12 KiB 1.00 of a
/// plain read. In two steps 8 to 32 KiB are equal.
pub(super) const AHEAD: usize = 12288;

/// How far ahead of their use lines go from L2 to L1, in bytes.
pub(super) const NEAR: usize = 4096;

impl Fetch {
    pub fn detect() -> Self {
        // Hypervisors answer CPUID themselves, in microseconds: once is enough.
        static INTEL: LazyLock<bool> = LazyLock::new(|| {
            let id = __cpuid(0);
            [id.ebx, id.edx, id.ecx].map(u32::to_le_bytes).as_flattened() == b"GenuineIntel"
        });
        Fetch { two_steps: *INTEL }
    }

    /// While weights are read: asks for the lines of `part` of what starts at `far`, where
    /// one step is best. Parts that are neighbours ask for no line twice.
    #[inline(always)]
    pub fn during(self, simd: Avx512, far: *const u8, part: Range<usize>) {
        if !self.two_steps {
            let first = part.start.next_multiple_of(LINE);
            prefetch_lines(simd, far.wrapping_add(first), part.end.saturating_sub(first));
        }
    }

    /// After weights were read: asks for the lines of `len` bytes from `near` on, used soon,
    /// and from `far` on, where two steps are best.
    #[inline(always)]
    pub fn after(self, simd: Avx512, near: *const u8, far: *const u8, len: usize) {
        if self.two_steps {
            prefetch_lines(simd, near, len);
            lines_to_l2(simd, far, len);
        }
    }

    /// Asks for the line of `far`, used much later, and for that of `near`, used soon.
    #[inline(always)]
    pub fn stream(self, simd: Avx512, far: *const u8, near: *const u8) {
        if self.two_steps {
            prefetch(simd, near);
        }
        self.lines(simd, far, 1);
    }

    /// Asks for the lines of `len` bytes from `start` on, which may lie anywhere and are
    /// used much later.
    #[inline(always)]
    pub fn lines(self, simd: Avx512, start: *const u8, len: usize) {
        if self.two_steps {
            lines_to_l2(simd, start, len);
        } else {
            prefetch_lines(simd, start, len);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vendor_decides() {
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        if info.contains("vendor_id") {
            assert_eq!(Fetch::detect().two_steps, info.contains("GenuineIntel"));
        }
    }
}
