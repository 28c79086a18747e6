//! How the weights of one row of activations (32-wide formats and floats: of up to three)
//! are fetched ahead of their use.
//!
//! Every line that a core waits for takes one of a few buffers: 10 to 24 before L1, two to
//! four times as many behind L2. Intel's cores come closer to filling the latter when far
//! lines are asked for in L2 only and once more, in L1, shortly before their use: decode
//! × 1.05 with two threads, 1.14 with one. Zen 5 is fastest with one step into L1, and
//! loses with every other hint (figures in `docs/performance.md`).

use std::arch::x86_64::__cpuid;
use std::ops::Range;
use std::sync::LazyLock;

use super::Avx512;
use super::vector::{LINE, lines_to_l2, prefetch_lines};

/// The way of this CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fetch {
    /// Into L2 first, then into L1.
    two_steps: bool,
}

/// How far ahead of their use lines go from L2 to L1, in bytes. With 1 KiB as fast.
const NEAR: usize = 2048;

impl Fetch {
    pub fn detect() -> Self {
        // Hypervisors answer CPUID themselves, in microseconds: once is enough.
        static INTEL: LazyLock<bool> = LazyLock::new(|| {
            let id = __cpuid(0);
            [id.ebx, id.edx, id.ecx].map(u32::to_le_bytes).as_flattened() == b"GenuineIntel"
        });
        Fetch { two_steps: *INTEL }
    }

    /// Asks for the lines `far` bytes behind `part` of what starts at `start` and is used
    /// now. Parts that are neighbours ask for no line twice.
    #[inline(always)]
    pub fn behind(self, simd: Avx512, start: *const u8, part: Range<usize>, far: usize) {
        let first = part.start.next_multiple_of(LINE);
        let start = start.wrapping_add(first);
        let len = part.end.saturating_sub(first);
        self.ahead(simd, start.wrapping_add(far), start.wrapping_add(NEAR), len);
    }

    /// Asks for the lines of `len` bytes from `far` on, used much later, and for those from
    /// `near` on, used soon.
    #[inline(always)]
    pub fn ahead(self, simd: Avx512, far: *const u8, near: *const u8, len: usize) {
        if self.two_steps {
            // In this order LLVM leaves the addresses to the instructions.
            prefetch_lines(simd, near, len);
            lines_to_l2(simd, far, len);
        } else {
            prefetch_lines(simd, far, len);
        }
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
