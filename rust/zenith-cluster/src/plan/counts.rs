//! How many nodes, how many ranks.

use super::{Environment, Machine, PlanError};
use crate::command_line::whole;

/// More ranks than that on one node are a slip of the finger.
const RANKS_MAX: i64 = 4096;

/// `N` or `MIN:MAX` (T-5).
pub(super) fn nodes(text: &str) -> Result<(u32, u32), PlanError> {
    let number = |part: &str| whole(part).map_err(PlanError::Value);
    let (least, most) = match text.split(':').collect::<Vec<_>>()[..] {
        [both] => (number(both)?, number(both)?),
        [least, most] => (number(least)?, number(most)?),
        _ => return Err(PlanError::Runtime(format!("nnodes={text} is not in \"MIN:MAX\" format"))),
    };
    if 0 < least && least <= most {
        let number = |number| u32::try_from(number).unwrap_or(u32::MAX);
        return Ok((number(least), number(most)));
    }
    let what = format!("min_nodes must be > 0 and <= max_nodes, got min_nodes={least}, max_nodes={most}");
    Err(PlanError::Assertion(what))
}

/// A number, or what stands for one (T-6).
pub(super) fn local_ranks(text: &str, machine: &Machine, environment: &Environment) -> Result<u32, PlanError> {
    let gpus = visible_gpus(machine.gpus, environment.text("CUDA_VISIBLE_DEVICES").as_deref());
    let number = match (whole(text), text) {
        (Ok(number), _) => number,
        (_, "cpu") => i64::from(machine.cpus),
        (_, "gpu") if gpus == 0 => return Err(PlanError::Value("Cuda is not available.".into())),
        (_, "gpu") => i64::from(gpus),
        (_, "auto") if gpus > 0 => i64::from(gpus),
        (_, "auto") => i64::from(machine.cpus),
        _ => return Err(PlanError::Value(format!("Unsupported nproc_per_node value: {text}"))),
    };
    match u32::try_from(number) {
        Ok(ranks) if (1..=RANKS_MAX).contains(&number) => Ok(ranks),
        _ => Err(PlanError::Assertion(format!("nproc_per_node must be between 1 and {RANKS_MAX}, got {number}"))),
    }
}

/// CUDA's rule: devices up to the first that does not exist.
fn visible_gpus(gpus: u32, visible: Option<&str>) -> u32 {
    let Some(visible) = visible else { return gpus };
    let exists = |device: &&str| match device.trim().parse::<u32>() {
        Ok(index) => index < gpus,
        Err(_) => gpus > 0 && ["GPU-", "MIG-"].iter().any(|kind| device.trim().starts_with(kind)),
    };
    visible.split(',').take_while(exists).count().try_into().unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_a_number_or_a_range() {
        assert_eq!(nodes("2"), Ok((2, 2)));
        assert_eq!(nodes("1:4"), Ok((1, 4)));
        for (text, error) in [
            ("1:2:3", "RuntimeError: nnodes=1:2:3 is not in \"MIN:MAX\" format"),
            ("x", "ValueError: invalid literal for int() with base 10: 'x'"),
            ("2:1", "AssertionError: min_nodes must be > 0 and <= max_nodes, got min_nodes=2, max_nodes=1"),
            ("0", "AssertionError: min_nodes must be > 0 and <= max_nodes, got min_nodes=0, max_nodes=0"),
        ] {
            assert_eq!(nodes(text).expect_err(text).to_string(), error);
        }
    }

    #[test]
    fn ranks_may_be_counted() {
        let ranks = |text, gpus, visible: Option<&str>| {
            let environment = visible.map(|visible| ("CUDA_VISIBLE_DEVICES", visible)).into_iter().collect();
            local_ranks(text, &Machine { cpus: 6, gpus, ..Machine::default() }, &environment)
                .map_err(|error| error.to_string())
        };
        for (text, gpus, visible, expected) in [
            ("4", 0, None, Ok(4)),
            ("cpu", 2, None, Ok(6)),
            ("auto", 0, None, Ok(6)),
            ("auto", 2, None, Ok(2)),
            ("auto", 2, Some(""), Ok(6)),
            ("gpu", 4, Some("2, 3"), Ok(2)),
            ("gpu", 4, Some("0,7,1"), Ok(1)),
            ("gpu", 4, Some("GPU-ab,MIG-cd"), Ok(2)),
            ("gpu", 0, None, Err("ValueError: Cuda is not available.")),
            ("gpu", 4, Some("-1"), Err("ValueError: Cuda is not available.")),
            ("foo", 0, None, Err("ValueError: Unsupported nproc_per_node value: foo")),
            ("0", 0, None, Err("AssertionError: nproc_per_node must be between 1 and 4096, got 0")),
            ("1_000_000", 0, None, Err("AssertionError: nproc_per_node must be between 1 and 4096, got 1000000")),
        ] {
            assert_eq!(ranks(text, gpus, visible), expected.map_err(String::from), "{text} {gpus} {visible:?}");
        }
    }
}
