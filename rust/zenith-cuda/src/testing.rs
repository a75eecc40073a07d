//! A driver without a device: streams whose work is done when a test says so, copies that read their source only then, and
//! errors on demand. TEST-2: a copy reads only what is registered at that moment, which is mapped by the contract of
//! `Driver::register`; tests complete work in a thread that nobody writes beside.
#![expect(unsafe_code, reason = "a DMA engine reads memory by its address")]

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::driver::{Context, Device, Driver, Event};
use crate::error::{CudaError, Result};

/// The calls of the port, as they are counted and made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Call {
    ActiveDevices,
    Retain,
    Release,
    Register,
    Unregister,
    CreateEvent,
    Record,
    Query,
    DestroyEvent,
}

impl Call {
    fn name(self) -> &'static str {
        match self {
            Self::ActiveDevices => "cuDevicePrimaryCtxGetState",
            Self::Retain => "cuDevicePrimaryCtxRetain",
            Self::Release => "cuDevicePrimaryCtxRelease",
            Self::Register => "cuMemHostRegister",
            Self::Unregister => "cuMemHostUnregister",
            Self::CreateEvent => "cuEventCreate",
            Self::Record => "cuCtxRecordEvent",
            Self::Query => "cuEventQuery",
            Self::DestroyEvent => "cuEventDestroy",
        }
    }
}

/// A stream of the fake driver; each goes on by itself, so work of several is done in any order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stream(usize);

/// A copy to the device that was submitted.
#[derive(Debug, Clone)]
pub struct Copy(Arc<Mutex<Option<Vec<u8>>>>);

impl Copy {
    /// What arrived on the device; `None` while the copy is under way, or when it read memory that is not page-locked.
    pub fn arrived(&self) -> Option<Vec<u8>> {
        lock(&self.0).clone()
    }
}

/// See the module.
#[derive(Debug)]
pub struct FakeDriver(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    active: Vec<bool>,
    streams: Vec<StreamState>,
    /// For each event the streams it waits for, and how much of their work.
    events: HashMap<usize, Vec<(usize, usize)>>,
    /// Length by address.
    registered: BTreeMap<usize, usize>,
    next_event: usize,
    counts: HashMap<Call, usize>,
    failures: Vec<Failure>,
}

#[derive(Debug)]
struct StreamState {
    device: usize,
    work: Vec<Work>,
    done: usize,
}

#[derive(Debug)]
enum Work {
    Kernel,
    Copy { start: usize, bytes: usize, sink: Copy },
}

#[derive(Debug)]
struct Failure {
    call: Call,
    skip: usize,
    always: bool,
    why: &'static str,
}

impl FakeDriver {
    /// A driver of this many devices, none of whose contexts is active.
    pub fn new(devices: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State { active: vec![false; devices], ..State::default() })))
    }

    /// Makes the context of a device active, as a framework does.
    pub fn activate(&self, device: Device) {
        self.state().active[device.0 as usize] = true;
    }

    /// A new stream on a device, whose context it makes active.
    pub fn stream(&self, device: Device) -> Stream {
        self.activate(device);
        let mut state = self.state();
        state.streams.push(StreamState { device: device.0 as usize, work: Vec::new(), done: 0 });
        Stream(state.streams.len() - 1)
    }

    /// Submits work that reads no host memory.
    pub fn submit(&self, stream: Stream) {
        self.state().streams[stream.0].work.push(Work::Kernel);
    }

    /// Submits a copy of `source` to the device. As a real one, it reads the memory when its turn comes, whoever has it then.
    pub fn copy(&self, stream: Stream, source: &[u8]) -> Copy {
        let sink = Copy(Arc::default());
        let work = Work::Copy { start: source.as_ptr().expose_provenance(), bytes: source.len(), sink: sink.clone() };
        self.state().streams[stream.0].work.push(work);
        sink
    }

    /// Does the next `count` pieces of a stream's work.
    pub fn complete(&self, stream: Stream, count: usize) {
        let mut state = self.state();
        for _ in 0..count {
            state.step(stream.0);
        }
    }

    /// Lets one later call fail: the next of its kind after `skip` others.
    pub fn fail(&self, call: Call, skip: usize, why: &'static str) {
        self.state().failures.push(Failure { call, skip, always: false, why });
    }

    /// Lets every later call of a kind fail.
    pub fn fail_always(&self, call: Call, why: &'static str) {
        self.state().failures.push(Failure { call, skip: 0, always: true, why });
    }

    /// Calls of a kind so far, those that failed among them.
    pub fn count(&self, call: Call) -> usize {
        self.state().counts.get(&call).copied().unwrap_or(0)
    }

    /// Calls of any kind so far.
    pub fn calls(&self) -> usize {
        self.state().counts.values().sum()
    }

    /// Bytes that are page-locked now.
    pub fn registered_bytes(&self) -> usize {
        self.state().registered.values().sum()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.0)
    }
}

impl State {
    fn enter(&mut self, call: Call) -> Result<()> {
        *self.counts.entry(call).or_default() += 1;
        let Some(index) = self.failures.iter().position(|failure| failure.call == call) else { return Ok(()) };
        let failure = &mut self.failures[index];
        if failure.skip > 0 {
            failure.skip -= 1;
            return Ok(());
        }
        let error = CudaError::new(call.name(), failure.why);
        if !failure.always {
            self.failures.remove(index);
        }
        Err(error)
    }

    /// Does the next piece of work of a stream.
    fn step(&mut self, stream: usize) {
        let Some(work) = self.streams[stream].work.get(self.streams[stream].done) else { return };
        if let Work::Copy { start, bytes, sink } = work
            && self.is_registered(*start, *bytes)
        {
            // SAFETY: TEST-2: the range is registered, so it is mapped, and nobody writes to it at this moment.
            let seen = unsafe { std::slice::from_raw_parts(std::ptr::with_exposed_provenance(*start), *bytes) };
            *lock(&sink.0) = Some(seen.to_vec());
        }
        self.streams[stream].done += 1;
    }

    fn is_registered(&self, start: usize, bytes: usize) -> bool {
        let below = self.registered.range(..=start).next_back();
        below.is_some_and(|(first, length)| start + bytes <= first + length)
    }
}

impl Driver for FakeDriver {
    fn active_devices(&self) -> Result<Vec<Device>> {
        let mut state = self.state();
        state.enter(Call::ActiveDevices)?;
        Ok((0..).zip(&state.active).filter(|(_, active)| **active).map(|(device, _)| Device(device)).collect())
    }

    fn retain(&self, device: Device) -> Result<Context> {
        let mut state = self.state();
        state.enter(Call::Retain)?;
        let Some(active) = state.active.get_mut(device.0 as usize) else {
            return Err(CudaError::new("cuDeviceGet", "CUDA_ERROR_INVALID_DEVICE"));
        };
        *active = true;
        Ok(Context(device.0 as usize))
    }

    fn release(&self, _device: Device) -> Result<()> {
        self.state().enter(Call::Release)
    }

    unsafe fn register(&self, _context: Context, start: *mut u8, bytes: usize) -> Result<()> {
        let mut state = self.state();
        state.enter(Call::Register)?;
        if state.is_registered(start.addr(), 1) {
            return Err(CudaError::new("cuMemHostRegister", "CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED"));
        }
        state.registered.insert(start.addr(), bytes);
        Ok(())
    }

    unsafe fn unregister(&self, _context: Context, start: *mut u8) -> Result<()> {
        let mut state = self.state();
        state.enter(Call::Unregister)?;
        let known = state.registered.remove(&start.addr());
        known.map(drop).ok_or_else(|| CudaError::new("cuMemHostUnregister", "CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED"))
    }

    fn create_event(&self, _context: Context) -> Result<Event> {
        let mut state = self.state();
        state.enter(Call::CreateEvent)?;
        state.next_event += 1;
        let event = state.next_event;
        state.events.insert(event, Vec::new());
        Ok(Event(event))
    }

    fn record(&self, context: Context, event: Event) -> Result<()> {
        let mut state = self.state();
        state.enter(Call::Record)?;
        let streams = state.streams.iter().enumerate().filter(|(_, stream)| stream.device == context.0);
        let awaited = streams.map(|(index, stream)| (index, stream.work.len())).collect();
        state.events.insert(event.0, awaited);
        Ok(())
    }

    fn has_passed(&self, _context: Context, event: Event) -> Result<bool> {
        let mut state = self.state();
        state.enter(Call::Query)?;
        let awaited = state.events.get(&event.0).ok_or_else(|| CudaError::new("cuEventQuery", "invalid handle"))?;
        Ok(awaited.iter().all(|(stream, work)| state.streams[*stream].done >= *work))
    }

    fn destroy_event(&self, _context: Context, event: Event) -> Result<()> {
        let mut state = self.state();
        state.enter(Call::DestroyEvent)?;
        let known = state.events.remove(&event.0);
        known.map(drop).ok_or_else(|| CudaError::new("cuEventDestroy", "invalid handle"))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
