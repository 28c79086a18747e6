//! What CPUID and the operating system say about the CPU.

use std::arch::asm;
use std::arch::x86_64::__cpuid;
use std::sync::LazyLock;

/// Whether Intel made it. Hypervisors answer CPUID themselves, in microseconds: it is asked
/// once.
pub(super) fn is_intel() -> bool {
    static INTEL: LazyLock<bool> = LazyLock::new(|| {
        let id = __cpuid(0);
        [id.ebx, id.edx, id.ecx].map(u32::to_le_bytes).as_flattened() == b"GenuineIntel"
    });
    *INTEL
}

/// Whether the CPU has tiles of int8 and bf16 and the kernel lets this process use them.
pub(super) fn has_amx() -> bool {
    static THERE: LazyLock<bool> = LazyLock::new(|| has_instructions() && permitted());
    *THERE
}

/// CPUID leaf 7: bit 22 of `edx` is AMX-BF16, bit 24 AMX-TILE, bit 25 AMX-INT8.
fn has_instructions() -> bool {
    use std::arch::x86_64::__cpuid_count;
    const BITS: u32 = 0b1101 << 22;
    __cpuid(0).eax >= 7 && __cpuid_count(7, 0).edx & BITS == BITS
}

/// Asks Linux for the tiles' state, 8 KiB per thread, for all threads of the process.
/// Linux before 5.16, one whose hypervisor hides tiles, and one where a thread has a stack
/// for signals that is too small for them refuse.
#[cfg(target_os = "linux")]
fn permitted() -> bool {
    const ARCH_PRCTL: i64 = 158;
    const ARCH_REQ_XCOMP_PERM: i64 = 0x1023;
    const XTILEDATA: i64 = 18;
    let mut result = ARCH_PRCTL;
    // SAFETY: a system call that reads and writes no memory of ours; it changes `rax`,
    // `rcx` and `r11` only.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") result,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") XTILEDATA,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result == 0
}

/// Other systems have other ways, which nobody here could try.
#[cfg(not(target_os = "linux"))]
fn permitted() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vendor_is_that_of_the_system() {
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        if info.contains("vendor_id") {
            assert_eq!(is_intel(), info.contains("GenuineIntel"));
        }
    }
}
