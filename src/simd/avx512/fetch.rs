//! How the weights of one row of activations (32-wide formats and floats: of up to three)
//! are fetched ahead of their use.
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

/// How far ahead of their use lines go from L2 to L1, in bytes.
const NEAR: usize = 4096;

impl Fetch {
    pub fn detect() -> Self {
        // Hypervisors answer CPUID themselves, in microseconds: once is enough.
        static INTEL: LazyLock<bool> = LazyLock::new(|| {
            let id = __cpuid(0);
            [id.ebx, id.edx, id.ecx].map(u32::to_le_bytes).as_flattened() == b"GenuineIntel"
        });
        Fetch { two_steps: *INTEL }
    }

    /// While `part` of what starts at `start` is used: asks for the lines `far` bytes
    /// behind it, where one step is best. Parts that are neighbours ask for no line twice.
    #[inline(always)]
    pub fn during(self, simd: Avx512, start: *const u8, part: Range<usize>, far: usize) {
        if !self.two_steps {
            let first = part.start.next_multiple_of(LINE);
            let len = part.end.saturating_sub(first);
            prefetch_lines(simd, start.wrapping_add(first + far), len);
        }
    }

    /// After the `len` bytes from `start` on were used: asks for the lines `far` bytes
    /// behind them, where two steps are best.
    #[inline(always)]
    pub fn after(self, simd: Avx512, start: *const u8, len: usize, far: usize) {
        if self.two_steps {
            prefetch_lines(simd, start.wrapping_add(NEAR), len);
            lines_to_l2(simd, start.wrapping_add(far), len);
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
