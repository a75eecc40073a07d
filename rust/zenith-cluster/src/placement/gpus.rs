//! Which GPUs there are, and which of them CUDA shows to the ranks.

use std::fs;
use std::path::Path;

use super::nvml::{self, Answer};

/// An NVIDIA GPU.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gpu {
    /// As sysfs writes it: `0000:1b:00.0`.
    pub address: String,
    /// `GPU-...`, where the driver tells.
    pub uuid: Option<String>,
    pub model: Option<String>,
    /// `None` where the firmware does not tell, as in most virtual machines.
    pub node: Option<u32>,
    /// UUIDs of its MIG instances: `MIG-...`.
    pub instances: Vec<String>,
}

/// Who told of the GPUs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum GpuSource {
    Nvml,
    /// /proc/driver/nvidia/gpus, which has no MIG instances.
    Driver,
    /// PCI devices of NVIDIA's that are displays, whether or not the driver serves them.
    Pci,
    #[default]
    None,
}

/// NVML knows best: it leaves out what a container may not use, and tells MIG instances. It tells of this machine alone, so of
/// files below another root it is not asked. The last part of the answer says that it was and stayed silent.
pub(super) fn installed(root: &Path) -> (Vec<Gpu>, GpuSource, bool) {
    let answer = if root == Path::new("/") { nvml::gpus() } else { Answer::Nothing };
    let is_silent = answer == Answer::Silence;
    let (mut gpus, source) = match answer {
        Answer::Gpus(gpus) => (gpus, GpuSource::Nvml),
        Answer::Nothing | Answer::Silence => match (by_driver(root), by_pci(root)) {
            (gpus, _) if !gpus.is_empty() => (gpus, GpuSource::Driver),
            (_, gpus) if !gpus.is_empty() => (gpus, GpuSource::Pci),
            _ => (Vec::new(), GpuSource::None),
        },
    };
    for gpu in &mut gpus {
        let node = root.join("sys/bus/pci/devices").join(&gpu.address).join("numa_node");
        gpu.node = fs::read_to_string(node).ok().and_then(|text| text.trim().parse().ok());
    }
    gpus.sort_by(|a, b| a.address.cmp(&b.address));
    (gpus, source, is_silent)
}

fn by_driver(root: &Path) -> Vec<Gpu> {
    let gpu = |entry: fs::DirEntry| {
        let information = fs::read_to_string(entry.path().join("information")).ok()?;
        let field = |name: &str| {
            let value = information.lines().find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix(':'));
            value.map(|value| value.trim().to_owned())
        };
        Some(Gpu {
            address: entry.file_name().to_str()?.to_lowercase(),
            uuid: field("GPU UUID").filter(|uuid| uuid.starts_with("GPU-") && !uuid.contains('?')),
            model: field("Model"),
            ..Gpu::default()
        })
    };
    entries(&root.join("proc/driver/nvidia/gpus")).filter_map(gpu).collect()
}

fn by_pci(root: &Path) -> Vec<Gpu> {
    let is_gpu = |entry: &fs::DirEntry| {
        let begins = |name: &str, with: &str| {
            fs::read_to_string(entry.path().join(name)).is_ok_and(|text| text.trim_start().starts_with(with))
        };
        // VGA and 3D controllers.
        begins("vendor", "0x10de") && (begins("class", "0x0300") || begins("class", "0x0302"))
    };
    entries(&root.join("sys/bus/pci/devices"))
        .filter(is_gpu)
        .filter_map(|entry| Some(Gpu { address: entry.file_name().to_str()?.into(), ..Gpu::default() }))
        .collect()
}

fn entries(folder: &Path) -> impl Iterator<Item = fs::DirEntry> {
    fs::read_dir(folder).into_iter().flatten().flatten()
}

/// The GPUs that CUDA shows, in its order: `cuda:0` first. `list` is `CUDA_VISIBLE_DEVICES`, read as torch reads it: devices up to
/// the first that does not exist, none at all if one stands twice, numbers or UUIDs as the first one says. Of a UUID its beginning
/// does where only one device has it.
pub fn visible(gpus: &[Gpu], list: Option<&str>) -> Vec<Gpu> {
    let Some(list) = list else { return gpus.to_vec() };
    let kind = ["GPU-", "MIG-"].into_iter().find(|kind| list.starts_with(kind));
    let chosen = match kind {
        Some(kind) => {
            let named = list.split(',').take_while(|item| item.starts_with(kind)).map(String::from);
            let named: Vec<String> = named.collect();
            let devices: Vec<_> = named.iter().map_while(|item| named_device(gpus, item)).collect();
            if has_twice(&named) || has_twice(&devices) { Vec::new() } else { devices }
        }
        None => {
            let numbers: Vec<usize> = list.split(',').map_while(|item| leading_number(item.trim())).collect();
            let devices = numbers.iter().take_while(|&&number| number < gpus.len()).map(|&number| (number, None));
            if has_twice(&numbers) { Vec::new() } else { devices.collect() }
        }
    };
    chosen.into_iter().map(|(gpu, _)| gpus[gpu].clone()).collect()
}

fn has_twice<Item: PartialEq>(items: &[Item]) -> bool {
    items.iter().enumerate().any(|(place, item)| items[..place].contains(item))
}

/// As strtoul: `1gpu` is 1.
fn leading_number(text: &str) -> Option<usize> {
    let digits = text.strip_prefix('+').unwrap_or(text);
    let end = digits.find(|character: char| !character.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().ok()
}

/// A GPU by its place in `gpus`, and which instance of it.
fn named_device(gpus: &[Gpu], item: &str) -> Option<(usize, Option<String>)> {
    // Older drivers name instances by their GPU: MIG-GPU-<uuid>/<gpu instance>/<compute instance>.
    if let Some(rest) = item.strip_prefix("MIG-").filter(|rest| rest.starts_with("GPU-")) {
        let uuid = rest.split('/').next();
        let place = gpus.iter().position(|gpu| gpu.uuid.is_some() && gpu.uuid.as_deref() == uuid)?;
        return Some((place, Some(item.into())));
    }
    let begins = |uuid: &&String| uuid.starts_with(item);
    let of_gpu = |(place, gpu): (usize, &Gpu)| {
        let itself = gpu.uuid.iter().filter(begins).map(move |_| (place, None)).collect::<Vec<_>>();
        let instances = gpu.instances.iter().filter(begins).map(move |uuid| (place, Some(uuid.clone())));
        itself.into_iter().chain(instances).collect::<Vec<_>>()
    };
    let mut found = gpus.iter().enumerate().flat_map(of_gpu);
    let first = found.next();
    if found.next().is_some() { None } else { first }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpu(number: u32, uuid: &str, instances: &[&str]) -> Gpu {
        Gpu {
            address: format!("0000:{number:02x}:00.0"),
            uuid: Some(uuid.into()),
            instances: instances.iter().map(|&uuid| uuid.into()).collect(),
            ..Gpu::default()
        }
    }

    #[test]
    fn cuda_visible_devices_chooses_and_orders() {
        let gpus =
            [gpu(0, "GPU-aa11", &[]), gpu(1, "GPU-ab22", &["MIG-c1", "MIG-c2"]), gpu(2, "GPU-b333", &["MIG-d1"])];
        for (list, expected) in [
            (None, &[0, 1, 2][..]),
            (Some(""), &[]),
            (Some("2, 0"), &[2, 0]),
            (Some("1,7,0"), &[1]),
            (Some("1,7,1"), &[]),
            (Some("1,GPU-b"), &[1]),
            (Some("1,-1,0"), &[1]),
            (Some("1gpu,+2"), &[1, 2]),
            (Some("NoDevFiles"), &[]),
            (Some("0,1,0"), &[]),
            (Some("99999999999999999999"), &[]),
            (Some("GPU-b,GPU-ab"), &[2, 1]),
            (Some("GPU-a"), &[]),
            (Some("GPU-b,1"), &[2]),
            (Some("GPU-b,GPU-b333"), &[]),
            (Some("MIG-d,MIG-c2"), &[2, 1]),
            (Some("MIG-c2,MIG-c1"), &[1, 1]),
            (Some("MIG-c"), &[]),
            (Some("MIG-GPU-ab22/1/0,MIG-GPU-ab22/2/0"), &[1, 1]),
            (Some("GPU-b, GPU-ab"), &[2]),
            (Some("é"), &[]),
            (Some("GPU-b,é"), &[2]),
        ] {
            let expected: Vec<_> = expected.iter().map(|&place: &usize| gpus[place].clone()).collect();
            assert_eq!(visible(&gpus, list), expected, "{list:?}");
        }
    }

    /// `topologies/visible.json`: UUIDs, lists, and which of the GPUs torch takes.
    #[test]
    fn lists_are_read_as_torch_reads_them() {
        #[derive(serde::Deserialize)]
        struct Recorded {
            uuids: Vec<String>,
            lists: std::collections::BTreeMap<String, Vec<usize>>,
        }
        let recorded: Recorded = serde_json::from_str(include_str!("topologies/visible.json")).expect("JSON");
        let gpus: Vec<_> = (0..).zip(&recorded.uuids).map(|(number, uuid)| gpu(number, uuid, &[])).collect();
        assert!(recorded.lists.len() > 200, "{}", recorded.lists.len());
        for (list, places) in &recorded.lists {
            let expected: Vec<_> = places.iter().map(|&place| gpus[place].clone()).collect();
            assert_eq!(visible(&gpus, Some(list)), expected, "{list:?}");
        }
    }
}
