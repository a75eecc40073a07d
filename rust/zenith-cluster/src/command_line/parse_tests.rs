use super::*;
use crate::command_line::StoreOwner;

fn parsed(line: &[&str], variables: &[(&str, &str)]) -> Result<Parsed, UsageError> {
    let arguments: Vec<OsString> = line.iter().map(OsString::from).collect();
    parse(&arguments, |name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into()))
}

fn options(line: &[&str], variables: &[(&str, &str)]) -> Options {
    match parsed(line, variables) {
        Ok(Parsed::Run(options)) => *options,
        other => panic!("{line:?}: {other:?}"),
    }
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

/// Whether what a line gives is that of `expected`, both with the script `s.py`.
fn check(line: &str, expected: impl FnOnce(&mut Options)) {
    let mut wanted = Options { training_script: "s.py".into(), ..Options::default() };
    expected(&mut wanted);
    assert_eq!(options(&words(line), &[]), wanted, "{line}");
}

#[test]
fn flags_have_two_spellings_and_abbreviations() {
    check("--nproc-per-node=2 s.py", |o| o.nproc_per_node = "2".into());
    check("--nproc_per_node 2 s.py", |o| o.nproc_per_node = "2".into());
    check("--nproc=2 s.py", |o| o.nproc_per_node = "2".into());
    check("--redirect=3 s.py", |o| o.redirects = "3".into());
    check("--stand s.py", |o| o.standalone = true);
    check("--rdzv-b=c10d s.py", |o| o.rdzv_backend = "c10d".into());
    check("-r3 -t=1 s.py", |o| (o.redirects, o.tee) = ("3".into(), "1".into()));
    check("-m s.py", |o| o.module = true);
    check("--max-restarts -1 --master-port 1_0 s.py", |o| (o.max_restarts, o.master_port) = (-1, Some(10)));
    check("--role= s.py", |o| o.role = String::new());
    check("--rdzv-conf=a=b s.py", |o| o.rdzv_conf = "a=b".into());
    check("--use_env s.py", |o| o.use_env = true);
}

#[test]
fn our_own_flags_need_full_spelling() {
    check("--store=rank0 --dry-run --json --keep-background --propagate-exit-code --forward-signals USR1 s.py", |o| {
        o.store = StoreOwner::Rank0;
        (o.dry_run, o.json, o.keep_background, o.propagate_exit_code) = (true, true, true, true);
        o.forward_signals = "USR1".into();
    });
    for line in ["--dry s.py", "--dry_run s.py", "--forward=USR1 s.py"] {
        assert!(matches!(parsed(&words(line), &[]), Err(UsageError::Grammar(_))), "{line}");
    }
    // They do not make an abbreviation of torchrun's ambiguous.
    check("--vir s.py", |o| o.virtual_local_rank = true);
}

#[test]
fn what_torchrun_is_handed_is_without_our_flags() {
    for (line, kept) in [
        ("--python /py --role=a s.py --python x", "--role=a s.py --python x"),
        ("--nproc 2 --legacy-launch --outcome-file=/x --use_env -m a.b", "--nproc 2 --use_env -m a.b"),
        ("--with-parent 7 -- --python x", "-- --python x"),
        ("--run-path /s.py", "--run-path /s.py"),
        ("--role", "--role"),
    ] {
        let arguments: Vec<OsString> = words(line).iter().map(OsString::from).collect();
        assert_eq!(without_ours(&arguments), words(kept), "{line}");
    }
}

#[test]
fn an_alias_needs_no_script() {
    let Ok(Parsed::InstallAlias(folder)) = parsed(&words("--role=x --install-alias /opt/bin --bogus"), &[]) else {
        panic!("it is to be made")
    };
    assert_eq!(folder.to_str(), Some("/opt/bin"));
    assert!(parsed(&["--install-alias"], &[]).is_err());
}

#[test]
fn what_is_behind_the_script_is_the_scripts() {
    for (line, arguments) in [
        ("s.py --role x -m --bogus", &["--role", "x", "-m", "--bogus"][..]),
        ("s.py -- --x", &["--x"]),
        ("s.py a -- --x", &["a", "--", "--x"]),
        ("-- s.py -- --x", &["--", "--x"]),
        ("s.py -- -- x", &["--", "x"]),
        ("s.py --log=1", &["--log=1"]),
    ] {
        check(line, |o| o.training_script_args = arguments.iter().map(OsString::from).collect());
    }
}

#[test]
fn arguments_need_not_be_utf8() {
    let odd = OsStr::from_bytes(b"\xff").to_os_string();
    let Ok(Parsed::Run(options)) = parse(&["s.py".into(), odd.clone()], |_| None) else {
        panic!("it is a command line")
    };
    assert_eq!(options.training_script_args, std::slice::from_ref(&odd));
    assert!(parse(&["--role".into(), odd], |_| None).is_err_and(|error| error.to_string().contains("not UTF-8")));
}

#[test]
fn the_environment_gives_defaults() {
    let variables = [
        ("PET_NPROC_PER_NODE", "4"),
        ("PET_STANDALONE", "2"),
        ("PET_NO_PYTHON", "0"),
        ("PET_START_METHOD", "bogus"),
        ("PET_DUPLICATE_STDOUT_FILTERS", "a,b"),
        ("PET_LOGS_SPECS", "x"),
        ("PET_NUMA_BINDING", "node"),
        ("PET_STORE", "rank0"),
    ];
    let found = options(&words("--nproc-per-node=2 s.py"), &variables);
    let expected = Options {
        nproc_per_node: "2".into(),
        standalone: true,
        start_method: "bogus".into(),
        duplicate_stdout_filters: vec!["a".into(), "b".into()],
        training_script: "s.py".into(),
        ..Options::default()
    };
    assert_eq!(found, expected);
}

#[test]
fn errors_say_what_argparse_says() {
    let required = "the following arguments are required: training_script, training_script_args";
    for (line, text) in [
        ("", required),
        ("--", required),
        ("--bogus", required),
        ("--bogus -x s.py", "unrecognized arguments: --bogus -x"),
        ("--role", "argument --role: expected one argument"),
        ("--role -- s.py", "argument --role: expected one argument"),
        ("--tee --role s.py", "argument -t/--tee: expected one argument"),
        ("--max_restarts=x s.py", "argument --max-restarts/--max_restarts: invalid int value: 'x'"),
        ("--standalone=1 s.py", "argument --standalone: ignored explicit argument '1'"),
        ("-mx s.py", "argument -m/--module: ignored explicit argument 'x'"),
        ("--no=1 s.py", "ambiguous option: --no=1 could match --no-python, --no_python, --node-rank, --node_rank"),
        (
            "--start-method=x s.py",
            "argument --start-method/--start_method: invalid choice: 'x' (choose from 'spawn', 'fork', 'forkserver')",
        ),
    ] {
        let error = parsed(&words(line), &[]).expect_err(line);
        assert_eq!(error, UsageError::Grammar(text.into()), "{line}");
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().ends_with(&format!("zenith-run: error: {text}")));
    }
}

#[test]
fn a_switch_of_the_environment_that_is_no_number_comes_first() {
    let error = parsed(&["--help"], &[("PET_STANDALONE", "yes")]).expect_err("no number");
    assert_eq!(error.to_string(), "ValueError: invalid literal for int() with base 10: 'yes'");
    assert_eq!(error.exit_code(), 1);
}

#[test]
fn help_and_version_win_over_what_follows() {
    for (line, start) in
        [("-h --bogus", "Starts the ranks"), ("--version", "zenith-run "), ("--completions bash", "_zenith_run")]
    {
        let Ok(Parsed::Print(text)) = parsed(&words(line), &[]) else { panic!("{line}") };
        assert!(text.starts_with(start), "{line}: {text}");
    }
}

#[test]
fn negative_numbers_and_blanks_are_values() {
    for (argument, is_value) in [
        ("-1", true),
        ("-1.5", true),
        ("-.5", true),
        ("-1.", false),
        ("-x", false),
        ("-a b", true),
        ("-", true),
        ("", true),
    ] {
        let found = classify(OsStr::new(argument)).expect("no abbreviation");
        assert_eq!(matches!(found, Argument::Value), is_value, "{argument:?}");
    }
}

proptest::proptest! {
    /// Words that look like flags, and others, in any order: an answer, and never a panic.
    #[test]
    fn every_command_line_has_an_answer(words in proptest::collection::vec("(--?[a-z_-]{0,14}(=.{0,4})?)|.{0,5}", 0..6)) {
        let arguments: Vec<OsString> = words.iter().map(OsString::from).collect();
        match parse(&arguments, |_| None) {
            Ok(Parsed::Run(options)) => proptest::prop_assert!(arguments.contains(&options.training_script)),
            Ok(Parsed::Print(text)) => proptest::prop_assert!(!text.is_empty()),
            Ok(Parsed::InstallAlias(_)) => proptest::prop_assert!(arguments.iter().any(|word| word.to_string_lossy().starts_with("--install-alias"))),
            Err(error) => proptest::prop_assert_eq!(error.exit_code(), 2),
        }
    }
}
