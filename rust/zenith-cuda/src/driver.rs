//! The port: what Zenith asks of a CUDA driver.
#![expect(unsafe_code, reason = "page-locking is promised for memory that only the caller can keep mapped")]

use std::fmt;

use crate::error::Result;

/// A device by its number in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Device(pub u32);

/// The primary context of a device, as the driver names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Context(pub usize);

/// An event, as the driver names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Event(pub usize);

/// The calls of the driver API that are needed to lend host memory to devices. Every call may come from any thread and
/// leaves the thread's current context as it was.
///
/// There is no call that records an event on one stream: whose stream a copy runs on is known to the user alone, and a guess
/// (the current stream of the thread that drops a tensor, the legacy default stream, which does not wait for the non-blocking
/// streams that frameworks make) may be wrong without anybody noticing.
pub trait Driver: fmt::Debug + Send + Sync + 'static {
    /// Devices whose primary context is active in this process: only these can be reading host memory.
    fn active_devices(&self) -> Result<Vec<Device>>;

    /// Keeps the primary context of a device alive, creating it where there is none.
    fn retain(&self, device: Device) -> Result<Context>;

    /// Gives back what `retain` took.
    fn release(&self, device: Device) -> Result<()>;

    /// Page-locks `bytes` bytes from `start` for all contexts of the process.
    ///
    /// # Safety
    /// The range must be mapped, and stay so until `unregister`.
    unsafe fn register(&self, context: Context, start: *mut u8, bytes: usize) -> Result<()>;

    /// Undoes `register`.
    ///
    /// # Safety
    /// `start` must have been given to `register`, and no work that was submitted may still read or write the range.
    unsafe fn unregister(&self, context: Context, start: *mut u8) -> Result<()>;

    /// An event of a context.
    fn create_event(&self, context: Context) -> Result<Event>;

    /// Captures in `event` all that was submitted so far to any stream of `context`, whatever its kind.
    fn record(&self, context: Context, event: Event) -> Result<()>;

    /// Whether all that an event of `context` captured is done.
    fn has_passed(&self, context: Context, event: Event) -> Result<bool>;

    /// Gives an event back; one that has not passed may be given back too.
    fn destroy_event(&self, context: Context, event: Event) -> Result<()>;
}
