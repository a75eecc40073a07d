//! Asks NVML, the library of NVIDIA's driver, which GPUs there are.
//!
//! It is asked in a process of its own: NVML takes tens of megabytes, leaves descriptors open and may start threads, none of
//! which a launcher that forks can use; and a driver that hangs takes only that process with it.
//!
//! NVML-1: functions are called while the library is open, and have the types of nvml.h.
//! NVML-2: what NVML writes to outlives the call, and is as long as it is told.

#![expect(unsafe_code, reason = "NVML is a C library")]

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use libloading::Library;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, Signal, WaitOptions};

use super::Gpu;
use crate::gang::{Forked, exit, fork};

const LIBRARY: &str = "libnvidia-ml.so.1";
/// Drivers without persistence mode initialise every GPU first.
const PATIENCE: Duration = Duration::from_secs(20);
const REAPED_WITHIN: Duration = Duration::from_millis(500);
const ANSWER_BYTES_MAX: u64 = 1 << 20;
const GPUS_MAX: c_uint = 256;
const TEXT_BYTES: usize = 96;

/// What came of asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    Gpus(Vec<Gpu>),
    /// It is not there, or refuses.
    Nothing,
    /// It had not answered in time: the driver may hang.
    Silence,
}

pub(super) fn gpus() -> Answer {
    match ask() {
        Ok(text) => text.and_then(|text| read(&text)).map_or(Answer::Nothing, Answer::Gpus),
        Err(Errno::TIMEDOUT) => Answer::Silence,
        Err(_) => Answer::Nothing,
    }
}

fn ask() -> rustix::io::Result<Option<String>> {
    let (answer, told) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    match fork().map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::AGAIN))? {
        Forked::Child => {
            let asked = std::panic::catch_unwind(|| Nvml::open().and_then(|nvml| nvml.gpus()));
            if let Ok(Some(gpus)) = asked {
                let _ = std::fs::File::from(told).write_all(written(&gpus).as_bytes());
            }
            exit(0)
        }
        Forked::Parent(pid) => {
            drop(told);
            let answer = listen(answer);
            let _ = rustix::process::kill_process(pid, Signal::KILL);
            reap(pid);
            answer
        }
    }
}

/// Not for ever: a process that the driver holds cannot be killed. It then ends as the launcher's zombie.
fn reap(pid: Pid) {
    for _ in 0..REAPED_WITHIN.as_millis() {
        match rustix::process::waitpid(Some(pid), WaitOptions::NOHANG) {
            Ok(None) | Err(Errno::INTR) => std::thread::sleep(Duration::from_millis(1)),
            _ => return,
        }
    }
}

/// All that is said until the other end is closed.
fn listen(from: OwnedFd) -> rustix::io::Result<Option<String>> {
    let end = Instant::now() + PATIENCE;
    let mut file = std::fs::File::from(from).take(ANSWER_BYTES_MAX);
    let mut bytes = Vec::new();
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(|_| Errno::INVAL)?;
        let mut ready = [PollFd::new(file.get_ref(), PollFlags::IN)];
        match rustix::event::poll(&mut ready, Some(&left)) {
            Ok(0) => return Err(Errno::TIMEDOUT),
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error),
        }
        let mut part = [0; 4096];
        match file.read(&mut part).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))? {
            0 => return Ok(String::from_utf8(bytes).ok()),
            count => bytes.extend(&part[..count]),
        }
    }
}

/// A line for each, with tabs between its fields, and a last line that says that nothing is missing.
fn written(gpus: &[Gpu]) -> String {
    let line = |gpu: &Gpu| {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        format!("{}\t{}\t{}\t{}\n", gpu.address, text(&gpu.uuid), text(&gpu.model), gpu.instances.join(","))
    };
    gpus.iter().map(line).chain(["all\n".into()]).collect()
}

fn read(answer: &str) -> Option<Vec<Gpu>> {
    let lines = answer.strip_suffix("all\n")?;
    let gpu = |line: &str| {
        let mut fields = line.split('\t');
        let mut field = || Some(fields.next()?.to_owned());
        let filled = |text: String| Some(text).filter(|text| !text.is_empty());
        Some(Gpu {
            address: field()?,
            uuid: filled(field()?),
            model: filled(field()?),
            node: None,
            instances: field()?.split(',').filter(|uuid| !uuid.is_empty()).map(String::from).collect(),
        })
    };
    lines.lines().map(gpu).collect()
}

type Device = *mut c_void;

/// `nvmlPciInfo_t`.
#[repr(C)]
struct Address {
    legacy_text: [c_char; 16],
    domain: c_uint,
    bus: c_uint,
    device: c_uint,
    ids: [c_uint; 2],
    text: [c_char; 32],
}

struct Nvml(Library);

impl Nvml {
    fn open() -> Option<Self> {
        // SAFETY: the driver's library runs nothing but its own initialisers when it is opened.
        let nvml = Self(unsafe { Library::new(LIBRARY) }.ok()?);
        let initialise = nvml.function::<unsafe extern "C" fn() -> c_int>("nvmlInit_v2")?;
        // SAFETY: NVML-1.
        (unsafe { initialise() } == 0).then_some(nvml)
    }

    fn function<Type: Copy>(&self, name: &str) -> Option<Type> {
        // SAFETY: NVML-1.
        unsafe { self.0.get::<Type>(name) }.ok().map(|symbol| *symbol)
    }

    fn gpus(&self) -> Option<Vec<Gpu>> {
        let count = self.number_of("nvmlDeviceGetCount_v2")?;
        (0..count.min(GPUS_MAX)).map(|index| self.gpu(index)).collect()
    }

    fn gpu(&self, index: c_uint) -> Option<Gpu> {
        let by_index =
            self.function::<unsafe extern "C" fn(c_uint, *mut Device) -> c_int>("nvmlDeviceGetHandleByIndex_v2")?;
        let mut device = std::ptr::null_mut();
        // SAFETY: NVML-1, NVML-2.
        if unsafe { by_index(index, &raw mut device) } != 0 {
            return None;
        }
        Some(Gpu {
            address: self.address(device)?,
            uuid: self.text("nvmlDeviceGetUUID", device),
            model: self.text("nvmlDeviceGetName", device),
            node: None,
            instances: self.instances(device).unwrap_or_default(),
        })
    }

    fn address(&self, device: Device) -> Option<String> {
        let get = self.function::<unsafe extern "C" fn(Device, *mut Address) -> c_int>("nvmlDeviceGetPciInfo_v3")?;
        let mut address = Address { legacy_text: [0; 16], domain: 0, bus: 0, device: 0, ids: [0; 2], text: [0; 32] };
        // SAFETY: NVML-1, NVML-2.
        let code = unsafe { get(device, &raw mut address) };
        let Address { domain, bus, device, .. } = address;
        (code == 0).then(|| format!("{domain:04x}:{bus:02x}:{device:02x}.0"))
    }

    /// UUIDs of MIG instances; their places need not follow each other.
    fn instances(&self, gpu: Device) -> Option<Vec<String>> {
        let most =
            self.function::<unsafe extern "C" fn(Device, *mut c_uint) -> c_int>("nvmlDeviceGetMaxMigDeviceCount")?;
        let by_index = self.function::<unsafe extern "C" fn(Device, c_uint, *mut Device) -> c_int>(
            "nvmlDeviceGetMigDeviceHandleByIndex",
        )?;
        let mut count = 0;
        // SAFETY: NVML-1, NVML-2.
        if unsafe { most(gpu, &raw mut count) } != 0 {
            return None;
        }
        let instance = |index| {
            let mut device = std::ptr::null_mut();
            // SAFETY: NVML-1, NVML-2.
            let code = unsafe { by_index(gpu, index, &raw mut device) };
            (code == 0).then(|| self.text("nvmlDeviceGetUUID", device)).flatten()
        };
        Some((0..count.min(GPUS_MAX)).filter_map(instance).collect())
    }

    fn number_of(&self, name: &str) -> Option<c_uint> {
        let get = self.function::<unsafe extern "C" fn(*mut c_uint) -> c_int>(name)?;
        let mut number = 0;
        // SAFETY: NVML-1, NVML-2.
        (unsafe { get(&raw mut number) } == 0).then_some(number)
    }

    fn text(&self, name: &str, device: Device) -> Option<String> {
        let get = self.function::<unsafe extern "C" fn(Device, *mut c_char, c_uint) -> c_int>(name)?;
        let mut text = [0_u8; TEXT_BYTES];
        // SAFETY: NVML-1, NVML-2.
        if unsafe { get(device, text.as_mut_ptr().cast(), TEXT_BYTES as c_uint) } != 0 {
            return None;
        }
        let text = CStr::from_bytes_until_nul(&text).ok()?.to_str().ok()?;
        Some(text.replace(['\t', '\n', ','], " "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_child_says_is_read() {
        let gpus = vec![
            Gpu { address: "0000:1b:00.0".into(), uuid: Some("GPU-1".into()), ..Gpu::default() },
            Gpu {
                address: "0000:43:00.0".into(),
                model: Some("NVIDIA H200".into()),
                instances: vec!["MIG-1".into(), "MIG-2".into()],
                ..Gpu::default()
            },
        ];
        let text = written(&gpus);
        assert_eq!(read(&text), Some(gpus));
        assert_eq!(read(&text[..text.len() - 4]), None, "an answer that was cut");
        assert_eq!(read("all\n"), Some(Vec::new()));
    }
}
