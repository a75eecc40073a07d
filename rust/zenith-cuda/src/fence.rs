//! A moment in the work of all devices: once it has passed, nothing that was submitted before it is under way.

use std::sync::Arc;

use crate::context::Contexts;
use crate::driver::{Context, Event};
use crate::error::Result;

/// One event for each context that was active, recorded behind all of its streams.
#[derive(Debug)]
pub(crate) struct Fence {
    contexts: Arc<Contexts>,
    /// Those that were not seen to pass.
    events: Vec<(Context, Event)>,
}

impl Fence {
    /// Records the moment. Where no context is active no copy can be under way, and the fence has passed at once.
    pub(crate) fn new(contexts: &Arc<Contexts>) -> Result<Self> {
        let mut fence = Self { contexts: contexts.clone(), events: Vec::new() };
        let driver = contexts.driver();
        for context in contexts.active()? {
            let event = driver.create_event(context)?;
            // In the list first, so that it is destroyed if recording fails.
            fence.events.push((context, event));
            driver.record(context, event)?;
        }
        Ok(fence)
    }

    /// Looks, and does not wait.
    pub(crate) fn has_passed(&mut self) -> Result<bool> {
        let driver = self.contexts.driver();
        while let Some(&(context, event)) = self.events.last() {
            if !driver.has_passed(context, event)? {
                return Ok(false);
            }
            self.events.pop();
            // That it cannot be destroyed changes nothing about what has passed.
            drop(driver.destroy_event(context, event));
        }
        Ok(true)
    }
}

impl Drop for Fence {
    fn drop(&mut self) {
        if !self.contexts.is_ours() {
            return;
        }
        for (context, event) in self.events.drain(..) {
            drop(self.contexts.driver().destroy_event(context, event));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::Device;
    use crate::testing::{Call, FakeDriver};

    #[test]
    fn a_fence_waits_for_every_stream_of_every_device_and_for_nothing_later() {
        let driver = FakeDriver::new(2);
        let contexts = Contexts::new(driver.clone());
        let streams = [driver.stream(Device(0)), driver.stream(Device(0)), driver.stream(Device(1))];
        for stream in streams {
            driver.submit(stream);
        }
        let mut fence = Fence::new(&contexts).unwrap();
        for stream in streams {
            driver.submit(stream);
        }
        for stream in streams.into_iter().rev() {
            assert!(!fence.has_passed().unwrap());
            driver.complete(stream, 1);
        }
        assert!(fence.has_passed().unwrap());
        assert_eq!((driver.count(Call::CreateEvent), driver.count(Call::DestroyEvent)), (2, 2));
    }

    #[test]
    fn a_fence_that_fails_half_way_leaves_no_event() {
        let driver = FakeDriver::new(2);
        let contexts = Contexts::new(driver.clone());
        driver.activate(Device(0));
        driver.activate(Device(1));
        driver.fail(Call::Record, 1, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED");
        assert_eq!(Fence::new(&contexts).unwrap_err().call(), "cuCtxRecordEvent");
        assert_eq!((driver.count(Call::CreateEvent), driver.count(Call::DestroyEvent)), (2, 2));
    }

    #[test]
    fn without_a_context_there_is_nothing_to_wait_for() {
        let driver = FakeDriver::new(1);
        assert!(Fence::new(&Contexts::new(driver.clone())).unwrap().has_passed().unwrap());
        assert_eq!(driver.count(Call::CreateEvent), 0);
    }
}
