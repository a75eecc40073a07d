use super::*;

fn random() -> Uuid {
    Uuid::from_u128(0x0102_0304_0506_4708_890a_0b0c_0d0e_0f10)
}

fn decided(change: impl FnOnce(&mut Options), variables: &[(&str, &str)]) -> Result<Decision, PlanError> {
    let mut options = Options { training_script: "s.py".into(), ..Options::default() };
    change(&mut options);
    let machine = Machine { cpus: 8, ..Machine::default() };
    let python = Interpreter { program: "python3".into(), own: "python3".into() };
    decide(options, variables.iter().copied().collect(), &machine, python, random())
}

fn settings(change: impl FnOnce(&mut Options), variables: &[(&str, &str)]) -> Settings {
    match decided(change, variables) {
        Ok(Decision::Here(settings)) => *settings,
        other => panic!("{other:?}"),
    }
}

#[test]
fn one_node_meets_at_a_free_port_under_a_random_name() {
    let free = |change: fn(&mut Options)| {
        let settings = settings(change, &[]);
        (settings.meeting, settings.run_id)
    };
    let random = random().to_string();
    assert_eq!(free(|_| {}), (Meeting::FreePort, random.clone()));
    assert_eq!(
        free(|o| (o.standalone, o.rdzv_id, o.master_port) = (true, "x".into(), Some(1))),
        (Meeting::FreePort, random.clone())
    );
    assert_eq!(free(|o| o.rdzv_id = "x".into()), (Meeting::FreePort, random), "T-10");
    assert_eq!(free(|o| (o.rdzv_backend, o.rdzv_id) = ("c10d".into(), "x".into())), (Meeting::FreePort, "x".into()));
    let at = Meeting::At { host: "127.0.0.1".into(), port: 7 };
    assert_eq!(free(|o| o.master_port = Some(7)), (at.clone(), "none".into()));
    assert_eq!(free(|o| (o.rdzv_endpoint, o.rdzv_id) = ("127.0.0.1:7".into(), String::new())).0, at);
}

#[test]
fn threads_share_the_cores() {
    for (ranks, given, expected, notices) in [
        ("1", None, None, 0),
        ("2", None, Some("4"), 1),
        ("3", None, Some("2"), 1),
        ("9", None, Some("1"), 1),
        ("2", Some("5"), Some("5"), 0),
    ] {
        let variables: Vec<_> = given.map(|value| ("OMP_NUM_THREADS", value)).into_iter().collect();
        let settings = settings(|o| o.nproc_per_node = ranks.into(), &variables);
        assert_eq!(settings.environment.text("OMP_NUM_THREADS").as_deref(), expected, "{ranks}");
        assert_eq!(settings.notices.len(), notices, "{ranks}");
    }
}

#[test]
fn the_grace_is_given_or_of_the_environment() {
    let variable = [("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "7")];
    assert_eq!(settings(|_| {}, &[]).rules.grace.as_secs(), 30);
    assert_eq!(settings(|_| {}, &variable).rules.grace.as_secs(), 7);
    assert_eq!(settings(|o| o.shutdown_timeout = Some(0), &variable).rules.grace.as_secs(), 0);
}

#[test]
fn signals_are_named() {
    let found = settings(
        |o| (o.signals_to_handle, o.forward_signals) = ("SIGTERM, SIGNONE,SIGKILL".into(), "USR1,SIGUSR2".into()),
        &[],
    );
    assert_eq!(found.rules.stops, [libc::SIGTERM]);
    assert_eq!(found.rules.forwards, [libc::SIGUSR1, libc::SIGUSR2]);
    assert_eq!(found.notices.len(), 2);
    assert_eq!(found.environment.text("TORCHELASTIC_SIGNALS_TO_HANDLE").as_deref(), Some("SIGTERM, SIGNONE,SIGKILL"));
}

#[test]
fn the_store_is_the_launchers_unless_said_otherwise() {
    let apart = [("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")];
    assert_eq!(settings(|_| {}, &[]).store, StoreOwner::Launcher);
    assert_eq!(settings(|_| {}, &apart).store, StoreOwner::Rank0);
    assert_eq!(settings(|o| o.store = StoreOwner::Rank0, &[]).store, StoreOwner::Rank0);
    assert_eq!(
        settings(|o| o.master_port = Some(7), &apart).store,
        StoreOwner::Launcher,
        "as torchrun's static rendezvous"
    );
}

#[test]
fn every_rank_has_its_gpu() {
    let gpus = |visible: &[(&str, &str)]| {
        settings(|o| (o.virtual_local_rank, o.nproc_per_node) = (true, "2".into()), visible).gpus
    };
    assert_eq!(gpus(&[]), Some(vec!["0".into(), "1".into()]));
    assert_eq!(gpus(&[("CUDA_VISIBLE_DEVICES", "4, 5,6")]), Some(vec!["4".into(), "5".into()]));
}

#[test]
fn errors_are_torchruns() {
    type Change = fn(&mut Options);
    let cases: [(Change, &str); 10] = [
        (|o| o.json = true, "ValueError: --json is a form of --dry-run"),
        (|o| o.max_restarts = -1, "AssertionError: max_restarts must be >= 0"),
        (|o| o.shutdown_timeout = Some(-2), "ValueError: shutdown_timeout must be non-negative, got -2"),
        (|o| o.tee = "9".into(), "ValueError: 9 does not match: <^[0123]$> or <^(\\d:[0123],)*(\\d:[0123])$>"),
        (
            |o| o.local_ranks_filter = "0,".into(),
            "ValueError: --local_ranks_filter must be a comma-separated list of integers e.g. --local_ranks_filter=0,1,2",
        ),
        (
            |o| (o.no_python, o.module) = (true, true),
            "ValueError: Don't use both the '--no-python' flag and the '--module' flag at the same time.",
        ),
        (
            |o| (o.no_python, o.legacy_launch) = (true, true),
            "ValueError: When using the '--no-python' flag, you must also set the '--use-env' flag.",
        ),
        (
            |o| (o.virtual_local_rank, o.nproc_per_node) = (true, "2".into()),
            "ValueError: local_rank 1 exceeds available GPUs in CUDA_VISIBLE_DEVICES=4",
        ),
        (|o| (o.node_rank, o.master_port) = (1, Some(1)), "ValueError: node_rank must be 0 where --nnodes is 1, got 1"),
        (
            |o| o.forward_signals = "KILL".into(),
            "ValueError: --forward-signals: KILL is no signal that can be handled.",
        ),
    ];
    for (change, text) in cases {
        let error = decided(change, &[("CUDA_VISIBLE_DEVICES", "4")]).expect_err(text).to_string();
        assert!(error.starts_with(text), "{error}");
    }
}

#[test]
fn what_is_pythons_is_left_to_python() {
    type Change = fn(&mut Options);
    let cases: [(Change, &str); 5] = [
        (|o| o.run_path = true, "--run-path"),
        (|o| o.logs_specs = Some("x".into()), "--logs-specs=x"),
        (|o| o.event_log_handler = "console".into(), "--event-log-handler=console"),
        (|o| o.rdzv_backend = "etcd".into(), "--rdzv-backend=etcd"),
        (|o| o.nproc_per_node = "xpu".into(), "--nproc-per-node=xpu"),
    ];
    for (change, reason) in cases {
        assert_eq!(decided(change, &[]), Ok(Decision::Python(reason.into())));
    }
    let both = decided(|o| (o.run_path, o.dry_run) = (true, true), &[]).expect_err("torchrun cannot").to_string();
    assert!(both.contains("--run-path") && both.contains("--dry-run"), "{both}");
    let timer = [("TORCHELASTIC_ENABLE_FILE_TIMER", "1")];
    assert_eq!(decided(|_| {}, &timer), Ok(Decision::Python("TORCHELASTIC_ENABLE_FILE_TIMER=1".into())));
    assert!(matches!(decided(|o| (o.standalone, o.rdzv_backend) = (true, "etcd".into()), &[]), Ok(Decision::Here(_))));
}
