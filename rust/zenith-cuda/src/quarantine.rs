//! What was dropped while a copy that somebody submitted may still read it.
//!
//! `tensor.to("cuda", non_blocking=True)` returns before the copy is done, and the tensor may be dropped then. Torch delays the
//! reuse of memory of its own pinned allocator, because its copies tell that allocator their stream; of any other memory they
//! tell nobody. So memory that was page-locked otherwise goes through here.

use std::collections::VecDeque;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::context::Contexts;
use crate::error::{CudaError, Result};
use crate::fence::Fence;

/// How long the end of a quarantine waits for the devices before it leaves what they may still read to itself.
const LEAVE_WAIT: Duration = Duration::from_millis(500);

/// Holds things until everything that was submitted to any stream of any device before they were dropped is done.
///
/// `admit` is for deleters: it takes a lock for a moment, calls no driver and runs in any thread. `collect` is for the thread
/// that consumes batches, at every batch: one event for each device covers all that was dropped since the last time. It is
/// recorded then and not in the deleter, because recording behind all streams ends a CUDA graph capture that is under way
/// with an error, and nobody asks for a batch in the midst of a capture, while anything may be dropped there.
#[derive(Debug)]
pub struct Quarantine<T> {
    contexts: Arc<Contexts>,
    dropped: Mutex<Vec<T>>,
    /// Oldest first; a fence that has passed lies behind none that has not.
    fenced: Mutex<VecDeque<(Fence, Vec<T>)>>,
    failure: Mutex<Option<CudaError>>,
}

impl<T> Quarantine<T> {
    pub fn new(contexts: Arc<Contexts>) -> Self {
        Self { contexts, dropped: Mutex::default(), fenced: Mutex::default(), failure: Mutex::default() }
    }

    /// Takes over `thing`, which nobody will submit to a device any more.
    pub fn admit(&self, thing: T) {
        if self.contexts.is_ours() {
            lock(&self.dropped).push(thing);
        } else {
            // It is the parent's, and the fork may have left the lock held (CUDA-2).
            mem::forget(thing);
        }
    }

    /// Gives back what no device reads any more. Does not wait; empty where another thread is at it, and in a forked child.
    pub fn collect(&self) -> Vec<T> {
        let mut passed = Vec::new();
        if self.contexts.is_ours()
            && let Ok(mut fenced) = self.fenced.try_lock()
        {
            let looked = self.look(&mut fenced, &mut passed);
            *lock(&self.failure) = looked.err();
        }
        passed
    }

    fn look(&self, fenced: &mut VecDeque<(Fence, Vec<T>)>, passed: &mut Vec<T>) -> Result<()> {
        let dropped = mem::take(&mut *lock(&self.dropped));
        if !dropped.is_empty() {
            match Fence::new(&self.contexts) {
                Ok(fence) => fenced.push_back((fence, dropped)),
                Err(error) => {
                    // Its turn comes again: without a fence nothing is known about it.
                    lock(&self.dropped).extend(dropped);
                    return Err(error);
                }
            }
        }
        while let Some((fence, _)) = fenced.front_mut() {
            if !fence.has_passed()? {
                break;
            }
            passed.extend(fenced.pop_front().into_iter().flat_map(|(_, things)| things));
        }
        Ok(())
    }

    /// Why the latest `collect` could not tell. What is in here stays, and more memory should not be page-locked.
    pub fn failure(&self) -> Option<CudaError> {
        lock(&self.failure).clone()
    }

    /// Things in here.
    pub fn len(&self) -> usize {
        lock(&self.dropped).len() + lock(&self.fenced).iter().map(|(_, things)| things.len()).sum::<usize>()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T> Drop for Quarantine<T> {
    fn drop(&mut self) {
        let end = Instant::now() + LEAVE_WAIT;
        while self.contexts.is_ours() && !self.is_empty() {
            drop(self.collect());
            if self.failure().is_some() || Instant::now() > end {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        // Left as it is for ever: memory that may be read must not be unlocked, unmapped or used again (CUDA-1). In a forked
        // child it is the parent's (CUDA-2).
        mem::take(mine(&mut self.dropped)).into_iter().for_each(mem::forget);
        for (_, things) in mem::take(mine(&mut self.fenced)) {
            things.into_iter().for_each(mem::forget);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a mutex holds, by whoever has it alone.
fn mine<T>(mutex: &mut Mutex<T>) -> &mut T {
    mutex.get_mut().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::Device;
    use crate::testing::{Call, FakeDriver};
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn quarantine<T>() -> (Arc<FakeDriver>, Quarantine<T>) {
        let driver = FakeDriver::new(1);
        (driver.clone(), Quarantine::new(Contexts::new(driver)))
    }

    /// Counts its drops.
    struct Counted(Arc<AtomicUsize>);

    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn things_come_out_when_the_work_before_their_drop_is_done() {
        let (driver, quarantine) = quarantine();
        let stream = driver.stream(Device(0));
        driver.submit(stream);
        quarantine.admit(1);
        quarantine.admit(2);
        assert!(quarantine.collect().is_empty());
        driver.submit(stream);
        quarantine.admit(3);
        assert!(quarantine.collect().is_empty());
        driver.complete(stream, 1);
        assert_eq!(quarantine.collect(), [1, 2]);
        assert_eq!(quarantine.len(), 1);
        driver.complete(stream, 1);
        assert_eq!(quarantine.collect(), [3]);
        assert!(quarantine.is_empty());
        assert_eq!(driver.count(Call::CreateEvent), 2, "one event for all that was dropped between two looks");
        assert_eq!(driver.count(Call::DestroyEvent), 2);
    }

    #[test]
    fn a_deleter_calls_no_driver() {
        let (driver, quarantine) = quarantine();
        driver.activate(Device(0));
        let before = driver.calls();
        quarantine.admit(1);
        assert_eq!(driver.calls(), before);
    }

    #[test]
    fn without_a_fence_nothing_comes_out_and_the_reason_is_told_until_it_is_gone() {
        let (driver, quarantine) = quarantine();
        driver.activate(Device(0));
        driver.fail(Call::Record, 0, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED");
        quarantine.admit(1);
        assert!(quarantine.collect().is_empty());
        assert_eq!(quarantine.failure().unwrap().call(), "cuCtxRecordEvent");
        assert_eq!(quarantine.len(), 1);
        assert_eq!(quarantine.collect(), [1]);
        assert_eq!(quarantine.failure(), None);
    }

    #[test]
    fn at_the_end_what_has_passed_is_dropped_and_the_rest_is_left_alone() {
        for done in [true, false] {
            let drops = Arc::new(AtomicUsize::new(0));
            let (driver, quarantine) = quarantine();
            let stream = driver.stream(Device(0));
            driver.submit(stream);
            quarantine.admit(Counted(drops.clone()));
            quarantine.collect();
            if done {
                driver.complete(stream, 1);
            }
            drop(quarantine);
            assert_eq!(drops.load(Ordering::Relaxed), usize::from(done));
        }
    }

    #[test]
    fn a_context_that_broke_keeps_things_and_does_not_hold_up_the_end() {
        let (driver, quarantine) = quarantine();
        driver.activate(Device(0));
        driver.fail_always(Call::Query, "CUDA_ERROR_CONTEXT_IS_DESTROYED");
        quarantine.admit(1);
        assert!(quarantine.collect().is_empty());
        assert_eq!(quarantine.failure().unwrap().call(), "cuEventQuery");
        let started = Instant::now();
        drop(quarantine);
        assert!(started.elapsed() < LEAVE_WAIT);
    }
}
