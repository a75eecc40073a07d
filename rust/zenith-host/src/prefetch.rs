//! Asking the processor to fetch memory that is needed soon.
#![expect(unsafe_code, reason = "the instruction has no safe wrapper")]

/// The size of a cache line on the processors that Zenith is built for.
const LINE_BYTES: usize = 64;
/// Of longer memory the processor's own prefetcher sees the pattern by then.
const BYTES_MAX: usize = 4 * LINE_BYTES;

/// Starts to fetch the first lines of `bytes` into the cache and returns at once. A hint: without effect on processors for
/// which Rust has no such instruction.
#[inline]
pub fn prefetch(bytes: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    for line in bytes[..bytes.len().min(BYTES_MAX)].chunks(LINE_BYTES) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: PREFETCH-1: the instruction reads nothing that the program can see and never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = bytes;
}

#[cfg(test)]
mod tests {
    use super::prefetch;

    #[test]
    fn any_length_is_taken() {
        let bytes = vec![7_u8; 1000];
        for len in [0, 1, 63, 64, 65, 256, 257, 1000] {
            prefetch(&bytes[..len]);
        }
    }
}
