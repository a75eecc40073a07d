//! The primary contexts of this process, each retained once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use zenith_host::fork;

use crate::driver::{Context, Device, Driver};
use crate::error::{CudaError, Result};

/// A driver with the contexts that are used through it. They are released when this is dropped.
#[derive(Debug)]
pub struct Contexts {
    driver: Arc<dyn Driver>,
    retained: Mutex<Vec<(Device, Context)>>,
    generation: u64,
}

impl Contexts {
    pub fn new(driver: Arc<dyn Driver>) -> Arc<Self> {
        Arc::new(Self { driver, retained: Mutex::default(), generation: fork::generation() })
    }

    pub(crate) fn driver(&self) -> &Arc<dyn Driver> {
        &self.driver
    }

    /// Whether this process is the one that made them; a forked child must leave the driver alone (CUDA-2).
    pub(crate) fn is_ours(&self) -> bool {
        self.generation == fork::generation()
    }

    /// The context of a device, made where there is none.
    pub(crate) fn of(&self, device: Device) -> Result<Context> {
        self.check()?;
        let mut retained = self.retained();
        if let Some((_, context)) = retained.iter().find(|(known, _)| *known == device) {
            return Ok(*context);
        }
        let context = self.driver.retain(device)?;
        retained.push((device, context));
        Ok(context)
    }

    /// The contexts that are active now, whoever made them: only work of theirs can be under way.
    pub(crate) fn active(&self) -> Result<Vec<Context>> {
        self.check()?;
        self.driver.active_devices()?.into_iter().map(|device| self.of(device)).collect()
    }

    fn check(&self) -> Result<()> {
        if self.is_ours() {
            return Ok(());
        }
        Err(CudaError::new("CUDA", "it cannot be used in a process that was forked after it was opened; spawn one"))
    }

    fn retained(&self) -> MutexGuard<'_, Vec<(Device, Context)>> {
        self.retained.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Contexts {
    fn drop(&mut self) {
        if !self.is_ours() {
            return;
        }
        for (device, _) in self.retained().drain(..) {
            // At the end of a process the driver may be gone already, and nobody could act on the error.
            drop(self.driver.release(device));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Call, FakeDriver};

    #[test]
    fn a_context_is_retained_once_and_released_at_the_end() {
        let driver = FakeDriver::new(2);
        let contexts = Contexts::new(driver.clone());
        let first = contexts.of(Device(1)).unwrap();
        assert_eq!(contexts.of(Device(1)).unwrap(), first);
        assert_eq!(driver.count(Call::Retain), 1);
        drop(contexts);
        assert_eq!(driver.count(Call::Release), 1);
    }

    #[test]
    fn contexts_that_others_made_are_seen() {
        let driver = FakeDriver::new(3);
        let contexts = Contexts::new(driver.clone());
        assert!(contexts.active().unwrap().is_empty());
        driver.activate(Device(2));
        assert_eq!(contexts.active().unwrap().len(), 1);
        assert_eq!(contexts.of(Device(2)).unwrap(), contexts.active().unwrap()[0]);
    }
}
