//! Which vector instructions there are.

use std::sync::OnceLock;

/// What the passes run on. Results do not depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Simd {
    Plain,
    /// SIMD-1: a value of this kind exists only where the processor has AVX2.
    #[cfg(target_arch = "x86_64")]
    Avx2(Proof),
    /// SIMD-1: likewise AVX-512 F, BW and VL, and AVX2.
    #[cfg(target_arch = "x86_64")]
    Avx512(Proof),
}

/// That the processor was asked; only this module makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Proof(());

impl Simd {
    /// The best of this machine.
    pub fn detect() -> Self {
        static BEST: OnceLock<Simd> = OnceLock::new();
        *BEST.get_or_init(|| Self::available().last().copied().unwrap_or(Self::Plain))
    }

    /// All that this machine has, best last.
    pub fn available() -> Vec<Self> {
        let mut all = vec![Self::Plain];
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            all.push(Self::Avx2(Proof(())));
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
            {
                all.push(Self::Avx512(Proof(())));
            }
        }
        all
    }
}
