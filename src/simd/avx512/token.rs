//! The proofs that the CPU has AVX-512, and AMX beside it.

use super::cpu;
use crate::simd::Task;

/// Proof that the CPU has the tier's instructions: only [`Avx512::new`] and [`Amx::new`]
/// make one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Avx512 {
    /// Whether AMX is there and may be used.
    amx: bool,
    /// Whether weights are fetched into L2 first, then into L1.
    two_steps: bool,
}

impl Avx512 {
    pub fn new() -> Option<Self> {
        let has = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c")
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vnni")
            && is_x86_feature_detected!("avx512vbmi")
            && is_x86_feature_detected!("gfni");
        has.then(|| Avx512 { amx: false, two_steps: cpu::is_intel() })
    }

    /// Whether [tiles](super::Tiles) can be configured.
    pub fn has_amx(self) -> bool {
        self.amx
    }

    /// Whether weights are best fetched in two steps, see [`super::fetch`].
    pub fn two_steps(self) -> bool {
        self.two_steps
    }

    /// Runs `task` in code compiled for this tier.
    pub fn enter<T: Task>(self, task: T) -> T::Output {
        #[target_feature(
            enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi,gfni"
        )]
        #[inline(never)]
        fn region<T: Task>(simd: Avx512, task: T) -> T::Output {
            task.run(simd)
        }
        // SAFETY: `self` proves that the CPU has the features.
        unsafe { region(self, task) }
    }
}

/// Proof that the CPU has AMX beside AVX-512 and that this process may use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Amx(Avx512);

impl Amx {
    pub fn new() -> Option<Self> {
        let avx512 = Avx512::new().filter(|_| cpu::has_amx())?;
        Some(Amx(Avx512 { amx: true, ..avx512 }))
    }

    /// With [`Avx512::has_amx`].
    pub fn avx512(self) -> Avx512 {
        self.0
    }
}
