//! A library that stands in for NVML where `tests/placement` puts it. `STUB_NVML` says what there is: a GPU a line, as
//! `DOMAIN:BUS:DEVICE UUID MODEL INSTANCE,INSTANCE`; or `crash`; anything else is a driver that refuses.
//! STUB-1: pointers are those of callers that keep NVML's rules.
#![expect(unsafe_code, reason = "a C library")]
#![expect(clippy::missing_safety_doc, reason = "the contracts are those of nvml.h")]

use std::ffi::{c_char, c_int, c_uint};
use std::sync::OnceLock;

const SUCCESS: c_int = 0;
const NOT_FOUND: c_int = 6;

/// GPUs are handles 1, 2, ...; their instances follow 1000 times that.
type Device = usize;

struct Gpu {
    address: [c_uint; 3],
    uuid: String,
    model: String,
    instances: Vec<String>,
}

fn gpus() -> &'static [Gpu] {
    static GPUS: OnceLock<Vec<Gpu>> = OnceLock::new();
    #[expect(clippy::disallowed_methods, reason = "a stub has no other way to be told")]
    GPUS.get_or_init(|| {
        let text = std::env::var("STUB_NVML").unwrap_or_default();
        if text == "crash" {
            std::process::abort();
        }
        text.lines().filter_map(gpu).collect()
    })
}

fn gpu(line: &str) -> Option<Gpu> {
    let mut words = line.split(' ').map(String::from);
    let address = words.next()?;
    let mut parts = address.split(':').map_while(|part| c_uint::from_str_radix(part, 16).ok());
    Some(Gpu {
        address: [parts.next()?, parts.next()?, parts.next()?],
        uuid: words.next()?,
        model: words.next()?,
        instances: words.next().map(|list| list.split(',').map(String::from).collect()).unwrap_or_default(),
    })
}

fn of(device: Device) -> Option<&'static Gpu> {
    gpus().get(device.checked_sub(1)?)
}

unsafe fn give<Value>(value: Option<Value>, to: *mut Value) -> c_int {
    let Some(value) = value else { return NOT_FOUND };
    // SAFETY: STUB-1.
    unsafe { to.write(value) };
    SUCCESS
}

unsafe fn give_text(text: Option<&str>, to: *mut c_char, length: c_uint) -> c_int {
    let Some(text) = text.filter(|text| text.len() < length as usize) else { return NOT_FOUND };
    for (place, byte) in text.bytes().chain([0]).enumerate() {
        // SAFETY: STUB-1; the text and its end are not longer than the buffer.
        unsafe { to.add(place).write(byte as c_char) };
    }
    SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlInit_v2() -> c_int {
    if gpus().is_empty() { NOT_FOUND } else { SUCCESS }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetCount_v2(count: *mut c_uint) -> c_int {
    // SAFETY: STUB-1.
    unsafe { give(c_uint::try_from(gpus().len()).ok(), count) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetHandleByIndex_v2(index: c_uint, device: *mut Device) -> c_int {
    // SAFETY: STUB-1.
    unsafe { give(of(index as usize + 1).map(|_| index as usize + 1), device) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetPciInfo_v3(device: Device, information: *mut c_uint) -> c_int {
    let Some(gpu) = of(device) else { return NOT_FOUND };
    for (index, part) in gpu.address.into_iter().enumerate() {
        // SAFETY: STUB-1; behind 16 bytes of text three numbers stand.
        unsafe { information.add(4 + index).write(part) };
    }
    SUCCESS
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetUUID(device: Device, text: *mut c_char, length: c_uint) -> c_int {
    let instance = || of(device / 1000)?.instances.get(device % 1000);
    let uuid = of(device).map(|gpu| &gpu.uuid).or_else(instance);
    // SAFETY: STUB-1.
    unsafe { give_text(uuid.map(String::as_str), text, length) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetName(device: Device, text: *mut c_char, length: c_uint) -> c_int {
    // SAFETY: STUB-1.
    unsafe { give_text(of(device).map(|gpu| gpu.model.as_str()), text, length) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMaxMigDeviceCount(device: Device, count: *mut c_uint) -> c_int {
    // SAFETY: STUB-1.
    unsafe { give(of(device).map(|_| 7), count) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMigDeviceHandleByIndex(
    device: Device,
    index: c_uint,
    instance: *mut Device,
) -> c_int {
    let found = of(device).and_then(|gpu| gpu.instances.get(index as usize)).map(|_| device * 1000 + index as usize);
    // SAFETY: STUB-1.
    unsafe { give(found, instance) }
}
