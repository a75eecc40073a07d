use std::path::Path;

use super::*;
use crate::command_line::Options;
use crate::plan::{Decision, Duplicate, Interpreter, Machine, Tail, TailedStream, decide};
use crate::worker::Output;

fn settings(change: impl FnOnce(&mut Options), variables: &[(&str, &str)]) -> Settings {
    let mut options = Options { training_script: "s.py".into(), nproc_per_node: "2".into(), ..Options::default() };
    change(&mut options);
    let python = Interpreter { program: "/py".into(), own: if variables.is_empty() { "/py" } else { "/own" }.into() };
    let environment = variables.iter().copied().chain([("OMP_NUM_THREADS", "2")]).collect();
    match decide(options, environment, &Machine::default(), python, uuid::Uuid::from_u128(7)) {
        Ok(Decision::Here(settings)) => *settings,
        other => panic!("{other:?}"),
    }
}

fn attempt(folder: Option<&str>) -> Attempt {
    let group = Group::alone(2);
    Attempt {
        number: 1,
        group,
        master_address: "127.0.0.1".into(),
        master_port: 9,
        coordinator_port: 10,
        folder: folder.map(Into::into),
    }
}

fn command(change: impl FnOnce(&mut Options)) -> Vec<OsString> {
    let worker = workers(&settings(change, &[]), &attempt(None)).remove(1);
    std::iter::once(worker.program).chain(worker.arguments).collect()
}

#[test]
fn scripts_modules_and_programs_have_their_commands() {
    assert_eq!(command(|o| o.training_script_args = vec!["-x".into()]), ["/py", "-u", "s.py", "-x"]);
    assert_eq!(command(|o| (o.module, o.training_script) = (true, "a.b".into())), ["/py", "-u", "-m", "a.b"]);
    assert_eq!(
        command(|o| (o.training_script, o.training_script_args) =
            ("s$local_rank.py".into(), vec!["${local_rank}$$".into()])),
        ["/py", "-u", "s1.py", "1$"]
    );
    assert_eq!(
        command(|o| (o.no_python, o.training_script, o.training_script_args) =
            (true, "p$local_rank".into(), vec!["$local_rank".into()])),
        ["p$local_rank", "1"],
        "the program's own name is not a template"
    );
    let legacy = |o: &mut Options| (o.legacy_launch, o.training_script_args) = (true, vec!["-x".into()]);
    assert_eq!(command(legacy), ["/py", "-u", "s.py", "--local-rank=1", "-x"], "T-58");
    assert_eq!(
        command(|o| {
            legacy(o);
            o.use_env = true;
        }),
        ["/py", "-u", "s.py", "-x"]
    );
}

#[test]
fn a_rank_has_torchruns_variables_and_what_is_inherited() {
    let settings = settings(|o| (o.role, o.max_restarts) = ("actor".into(), 3), &[("HOME", "/h"), ("RANK", "9")]);
    let worker = workers(&settings, &attempt(Some("/logs/attempt_1"))).remove(1);
    let mut found: Vec<_> =
        worker.environment.iter().map(|(name, value)| format!("{}={}", name.display(), value.display())).collect();
    found.sort();
    let expected = [
        "GROUP_RANK=0",
        "GROUP_WORLD_SIZE=1",
        "HOME=/h",
        "JAX_COORDINATOR_ADDRESS=127.0.0.1:10",
        "LOCAL_RANK=1",
        "LOCAL_WORLD_SIZE=2",
        "MASTER_ADDR=127.0.0.1",
        "MASTER_PORT=9",
        "OMP_NUM_THREADS=2",
        "RANK=1",
        "ROLE_NAME=actor",
        "ROLE_RANK=1",
        "ROLE_WORLD_SIZE=2",
        "TORCHELASTIC_ERROR_FILE=/logs/attempt_1/1/error.json",
        "TORCHELASTIC_MAX_RESTARTS=3",
        "TORCHELASTIC_RESTART_COUNT=1",
        "TORCHELASTIC_RUN_ID=00000000-0000-0000-0000-000000000007",
        "TORCHELASTIC_SIGNALS_TO_HANDLE=SIGTERM,SIGINT,SIGHUP,SIGQUIT",
        "TORCHELASTIC_USE_AGENT_STORE=True",
        "TORCH_NCCL_ASYNC_ERROR_HANDLING=1",
        "WORLD_SIZE=2",
    ];
    assert_eq!(found, expected);
}

#[test]
fn ranks_count_over_nodes_of_different_sizes() {
    let settings = settings(|_| {}, &[]);
    let group = Group::of(1, &[3, 2, 4]);
    assert_eq!(group, Group { rank: 1, nodes: 3, first_rank: 3, ranks: 9 });
    let worker = workers(&settings, &Attempt { group, ..attempt(None) }).remove(1);
    assert_eq!((worker.rank, worker.local_rank), (4, 1));
    for (name, value) in [
        ("RANK", "4"),
        ("LOCAL_RANK", "1"),
        ("WORLD_SIZE", "9"),
        ("LOCAL_WORLD_SIZE", "2"),
        ("GROUP_RANK", "1"),
        ("GROUP_WORLD_SIZE", "3"),
        ("ROLE_RANK", "4"),
        ("ROLE_WORLD_SIZE", "9"),
    ] {
        assert!(worker.environment.contains(&(name.into(), value.into())), "{name}");
    }
}

#[test]
fn a_coordinator_of_the_users_stays_and_one_of_an_outer_launcher_does_not() {
    let seen = |variables: &[(&str, &str)], master_address: &str| {
        let attempt = Attempt { master_address: master_address.into(), ..attempt(None) };
        let worker = workers(&settings(|_| {}, variables), &attempt).remove(0);
        let found = worker.environment.into_iter().find(|(name, _)| name == "JAX_COORDINATOR_ADDRESS");
        found.map(|(_, value)| value.into_string().expect("text")).expect("it is set")
    };
    let users = ("JAX_COORDINATOR_ADDRESS", "node0:1234");
    assert_eq!(seen(&[users], "node1"), "node0:1234");
    assert_eq!(seen(&[users, ("TORCHELASTIC_RUN_ID", "outer")], "node1"), "node1:10");
    assert_eq!(seen(&[("HOME", "/h")], "fe80::1"), "[fe80::1]:10");
}

#[test]
fn failures_are_called_after_the_script_or_a_foreign_interpreter() {
    assert_eq!(settings(|_| {}, &[]).entry(), "s.py");
    assert_eq!(settings(|o| o.no_python = true, &[]).entry(), "s.py");
    assert_eq!(settings(|_| {}, &[("PYTHON_EXEC", "/py")]).entry(), "/py");
}

#[test]
fn streams_go_where_they_are_sent() {
    let outputs = |change: fn(&mut Options), folder| {
        workers(&settings(change, &[]), &attempt(folder))
            .into_iter()
            .map(|worker| [worker.stdout, worker.stderr])
            .collect::<Vec<_>>()
    };
    let (inherited, discarded) = (|| Output::Inherited, || Output::Discarded);
    let file = |path: &str| Output::File(path.into());
    assert_eq!(outputs(|_| {}, Some("/a")), [[inherited(), inherited()], [inherited(), inherited()]]);
    assert_eq!(
        outputs(|o| (o.redirects, o.tee) = ("0:1".into(), "1:2".into()), Some("/a")),
        [[file("/a/0/stdout.log"), inherited()], [inherited(), file("/a/1/stderr.log")]]
    );
    assert_eq!(
        outputs(|o| (o.redirects, o.local_ranks_filter) = ("1".into(), "0".into()), Some("/a")),
        [[file("/a/0/stdout.log"), inherited()], [file("/a/1/stdout.log"), discarded()]],
        "T-47"
    );
    assert_eq!(
        outputs(|o| (o.redirects, o.local_ranks_filter) = ("3".into(), "0".into()), None),
        [[inherited(), inherited()], [inherited(), inherited()]],
        "T-56"
    );
}

#[test]
fn teed_streams_of_shown_ranks_are_tailed() {
    let folder = Some(Path::new("/a"));
    let tail = |file: &str, stream, prefix: &str| Tail { file: file.into(), stream, prefix: prefix.into() };
    let plain = settings(|o| (o.tee, o.redirects) = ("0:3,1:1".into(), "3".into()), &[]);
    assert_eq!(
        plain.tails(folder, 0),
        [
            tail("/a/0/stdout.log", TailedStream::Stdout, "[default0]:"),
            tail("/a/0/stderr.log", TailedStream::Stderr, "[default0]:"),
            tail("/a/1/stdout.log", TailedStream::Stdout, "[default1]:"),
        ]
    );
    assert_eq!(plain.tails(None, 0), []);
    let template = [("TORCHELASTIC_LOG_LINE_PREFIX_TEMPLATE", "<${role_name}$rank/$local_rank> ")];
    let filtered =
        settings(|o| (o.tee, o.role, o.local_ranks_filter) = ("1".into(), String::new(), "1".into()), &template);
    assert_eq!(filtered.tails(folder, 4), [tail("/a/1/stdout.log", TailedStream::Stdout, "<5/1> ")]);
    assert_eq!(
        settings(|o| (o.tee, o.role) = ("0:1".into(), String::new()), &[]).tails(folder, 0)[0].prefix,
        "[0]:",
        "T-55"
    );
}

#[test]
fn duplicates_have_a_file_per_stream() {
    let settings = settings(|o| o.duplicate_stderr_filters = vec!["a".into()], &[]);
    let wanted =
        Duplicate { file: "/a/filtered_stderr.log".into(), stream: TailedStream::Stderr, texts: vec!["a".into()] };
    assert_eq!((settings.duplicates(Some(Path::new("/a"))), settings.duplicates(None)), (vec![wanted], vec![]));
}
