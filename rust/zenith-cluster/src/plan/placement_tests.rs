use super::*;
use crate::placement::tests::recorded;

/// What becomes of a line of flags on a machine.
fn placed(
    topology: &str,
    binding: Option<&str>,
    ranks: u32,
    variables: &[(&str, &str)],
) -> Result<(Placement, Environment, Vec<String>), String> {
    let options = Options { numa_binding: binding.map(String::from), nccl_env: "safe".into(), ..Options::default() };
    let machine = Machine { cpus: 32, topology: Some(recorded(topology)), ..Machine::default() };
    let (mut environment, mut notices) = (variables.iter().copied().collect(), Vec::new());
    place(&options, ranks, true, &machine, &mut environment, &mut notices)
        .map(|placement| (placement, environment, notices))
        .map_err(|error| error.to_string())
}

#[test]
fn ranks_follow_the_visible_gpus() {
    let (placement, ..) =
        placed("dual-socket", Some("node"), 2, &[("CUDA_VISIBLE_DEVICES", "GPU-00000002,GPU-00000001")])
            .expect("a plan");
    let nodes: Vec<_> = placement.places.iter().map(|place| place.binding.as_ref()?.memory_node).collect();
    assert_eq!(nodes, [Some(1), Some(0)]);
    let error = placed("dual-socket", Some("node"), 2, &[("CUDA_VISIBLE_DEVICES", "1")]).expect_err("one GPU");
    assert!(error.starts_with("RuntimeError: --numa-binding=node: rank 1: it has no GPU; 1 can be seen"), "{error}");
}

#[test]
fn threads_are_the_ranks_own_where_ranks_are_bound() {
    let (placement, environment, notices) = placed("nvlink", Some("exclusive"), 4, &[]).expect("a plan");
    assert_eq!(placement.threads, [4, 4, 3, 11], "5, 5, 4 and 14 cores, a quarter of them left to loaders");
    assert_eq!(environment.get("OMP_NUM_THREADS"), None, "it is not the same for all");
    let notice = notices.iter().find(|text| text.starts_with("OMP_NUM_THREADS")).expect("printed");
    assert!(notice.starts_with("OMP_NUM_THREADS=4 for 2 ranks, 3 for 1 rank, 11 for 1 rank, in order"), "{notice}");
    let (placement, environment, _) = placed("nvlink", None, 4, &[]).expect("a plan");
    assert_eq!((placement.threads, environment.text("OMP_NUM_THREADS")), (vec![], Some("8".into())));
    let (placement, ..) = placed("nvlink", Some("exclusive"), 4, &[("OMP_NUM_THREADS", "3")]).expect("a plan");
    assert_eq!(placement.threads, [] as [u32; 0], "the user's own");
    let (placement, ..) = placed("nvlink", Some("exclusive"), 1, &[]).expect("a plan");
    assert_eq!(placement.threads, [] as [u32; 0], "one rank: OpenMP counts by its affinity");
}

#[test]
fn cores_are_left_to_loaders_as_many_as_are_asked_for() {
    let with = |binding: Option<&str>, ranks, cores| {
        let options =
            Options { numa_binding: binding.map(String::from), loader_cores: Some(cores), ..Options::default() };
        let machine = Machine { cpus: 32, topology: Some(recorded("nvlink")), ..Machine::default() };
        let (mut environment, mut notices) = (Environment::default(), Vec::new());
        place(&options, ranks, true, &machine, &mut environment, &mut notices)
            .map(|placement| (placement.threads, environment.text("OMP_NUM_THREADS"), notices))
            .map_err(|error| error.to_string())
    };
    assert_eq!(with(Some("exclusive"), 4, 2).expect("a plan").0, [3, 3, 2, 12]);
    assert_eq!(with(Some("exclusive"), 4, 0).expect("a plan").0, [5, 5, 4, 14]);
    assert_eq!(with(Some("exclusive"), 4, 99).expect("a plan").0, [1, 1, 1, 1], "never none");
    let (_, unbound, notices) = with(None, 4, 2).expect("a plan");
    assert_eq!(unbound.as_deref(), Some("6"));
    assert!(notices[0].contains("2 of each rank's left to loaders"), "{notices:?}");
    assert_eq!(with(None, 1, 2).expect("a plan").1.as_deref(), Some("30"), "asked for, so said to one rank too");
    assert!(with(None, 1, -1).expect_err("no number of cores").contains("--loader-cores must be >= 0, got -1"));
}

#[test]
fn every_variable_is_printed_with_its_reason() {
    let (_, environment, notices) =
        placed("dual-socket", Some("auto"), 2, &[("GLOO_SOCKET_IFNAME", "eth0")]).expect("a plan");
    assert_eq!(environment.text("NCCL_SOCKET_IFNAME").as_deref(), Some("=lo"));
    assert_eq!(environment.text("GLOO_SOCKET_IFNAME").as_deref(), Some("eth0"));
    for start in ["NCCL_SOCKET_IFNAME==lo: all ranks are on this node", "NCCL_IGNORE_CPU_AFFINITY=0: NCCL's threads"] {
        assert!(notices.iter().any(|notice| notice.starts_with(start)), "{notices:?}");
    }
    assert!(!notices.iter().any(|notice| notice.starts_with("GLOO")));
}

#[test]
fn what_may_be_otherwise_than_planned_is_said() {
    let mut mixed = recorded("dual-socket");
    mixed.gpus[0].model = Some("another".into());
    (mixed.may_prefer_memory, mixed.is_driver_silent) = (false, true);
    let machine = Machine { cpus: 32, topology: Some(mixed), ..Machine::default() };
    let options = Options { numa_binding: Some("node".into()), ..Options::default() };
    let mut notices = Vec::new();
    let placement = place(&options, 1, true, &machine, &mut Environment::default(), &mut notices).expect("a plan");
    assert_eq!(placement.places[0].binding.as_ref().map(|binding| binding.memory_node), Some(None));
    for (notice, part) in
        notices.iter().zip(["CUDA_DEVICE_ORDER=PCI_BUS_ID", "NVML does not answer", "set_mempolicy is refused"])
    {
        assert!(notice.contains(part), "{notice}");
    }
    assert_eq!(notices.len(), 3, "{notices:?}");
    let mut notices = Vec::new();
    let mut ordered = [("CUDA_DEVICE_ORDER", "PCI_BUS_ID")].into_iter().collect();
    place(&options, 1, true, &machine, &mut ordered, &mut notices).expect("a plan");
    assert_eq!(notices.len(), 2, "{notices:?}");
}
