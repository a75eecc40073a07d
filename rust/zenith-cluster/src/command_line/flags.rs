//! Every flag, once: its names, where it goes, what it means. Defaults are those of `Options`.

use super::numbers::{real, whole};
use super::options::{Options, StoreOwner};

pub(super) struct Flag {
    /// As messages spell it: `-r/--redirects`. The underscore spelling is derived.
    pub(super) short: Option<&'static str>,
    pub(super) long: &'static str,
    pub(super) group: Group,
    pub(super) kind: Kind,
    pub(super) choices: &'static [&'static str],
    /// Whether `PET_<NAME>` is its default.
    pub(super) in_environment: bool,
    /// torchrun has it: it has an underscore spelling and may be abbreviated.
    pub(super) is_torchruns: bool,
    pub(super) placeholder: &'static str,
    pub(super) help: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Group {
    Workers,
    Rendezvous,
    Lifecycle,
    Logs,
    Other,
}

impl Group {
    pub(super) const ALL: [(Self, &str); 5] = [
        (Self::Workers, "Workers"),
        (Self::Rendezvous, "Nodes and rendezvous"),
        (Self::Lifecycle, "Failures, restarts, signals"),
        (Self::Logs, "Logs"),
        (Self::Other, "Other"),
    ];
}

/// Where a value goes, and so of which type it is.
pub(super) enum Kind {
    On(fn(&mut Options) -> &mut bool),
    Text(fn(&mut Options) -> &mut String),
    OptionalText(fn(&mut Options) -> &mut Option<String>),
    Whole(fn(&mut Options) -> &mut i64),
    OptionalWhole(fn(&mut Options) -> &mut Option<i64>),
    Real(fn(&mut Options) -> &mut f64),
    /// Separated by commas; two commas are one that does not separate.
    List(fn(&mut Options) -> &mut Vec<String>),
    Store,
    Help,
    Version,
    Completions,
    InstallAlias,
}

impl Flag {
    pub(super) fn takes_value(&self) -> bool {
        !matches!(self.kind, Kind::On(_) | Kind::Help | Kind::Version)
    }

    /// All that it may be called, in argparse's order.
    pub(super) fn names(&self) -> impl Iterator<Item = String> {
        let underscores = format!("--{}", self.long[2..].replace('-', "_"));
        let other = (self.is_torchruns && underscores != self.long).then_some(underscores);
        self.short.map(String::from).into_iter().chain([self.long.into()]).chain(other)
    }

    /// How argparse calls it in messages.
    pub(super) fn title(&self) -> String {
        self.names().collect::<Vec<_>>().join("/")
    }

    pub(super) fn variable(&self) -> Option<String> {
        self.in_environment.then(|| format!("PET_{}", self.long[2..].replace('-', "_").to_uppercase()))
    }

    /// Puts a value in its place; the error is what argparse says behind the flag's title. Choices are checked by the caller,
    /// as they do not hold for what comes from the environment (T-1).
    pub(super) fn set(&self, options: &mut Options, value: &str) -> Result<(), String> {
        let whole = |value: &str| whole(value).map_err(|_| format!("invalid int value: '{value}'"));
        match self.kind {
            Kind::Text(place) => *place(options) = value.into(),
            Kind::OptionalText(place) => *place(options) = Some(value.into()),
            Kind::Whole(place) => *place(options) = whole(value)?,
            Kind::OptionalWhole(place) => *place(options) = Some(whole(value)?),
            Kind::Real(place) => {
                *place(options) = real(value).ok_or_else(|| format!("invalid float value: '{value}'"))?;
            }
            Kind::List(place) => *place(options) = listed(value),
            Kind::Store => options.store = if value == "rank0" { StoreOwner::Rank0 } else { StoreOwner::Launcher },
            Kind::On(_) | Kind::Help | Kind::Version | Kind::Completions | Kind::InstallAlias => {}
        }
        Ok(())
    }
}

fn listed(value: &str) -> Vec<String> {
    let mut items = vec![String::new()];
    let mut rest = value;
    while let Some(character) = rest.chars().next() {
        rest = &rest[character.len_utf8()..];
        match (character, rest.strip_prefix(',')) {
            (',', Some(behind)) => rest = behind,
            (',', None) => {
                items.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(item) = items.last_mut() {
            item.push(character);
        }
    }
    items
}

const fn flag(long: &'static str, group: Group, kind: Kind, placeholder: &'static str, help: &'static str) -> Flag {
    Flag { short: None, long, group, kind, choices: &[], in_environment: true, is_torchruns: true, placeholder, help }
}

/// A flag that torchrun does not have: full spelling only, no `PET_` variable.
const fn own(long: &'static str, group: Group, kind: Kind, placeholder: &'static str, help: &'static str) -> Flag {
    Flag { in_environment: false, is_torchruns: false, ..flag(long, group, kind, placeholder, help) }
}

const fn without_variable(flag: Flag) -> Flag {
    Flag { in_environment: false, ..flag }
}

const fn with_short(short: &'static str, flag: Flag) -> Flag {
    Flag { short: Some(short), ..flag }
}

const fn with_choices(choices: &'static [&'static str], flag: Flag) -> Flag {
    Flag { choices, ..flag }
}

/// In torchrun's order, which candidates of an ambiguous abbreviation are listed in; ours follow.
pub(super) const FLAGS: &[Flag] = &[
    without_variable(with_short("-h", flag("--help", Group::Other, Kind::Help, "", "Show this help and exit."))),
    flag(
        "--nnodes",
        Group::Rendezvous,
        Kind::Text(|o| &mut o.nnodes),
        "N|MIN:MAX",
        "Number of nodes. This version starts the ranks of one node.",
    ),
    flag(
        "--nproc-per-node",
        Group::Workers,
        Kind::Text(|o| &mut o.nproc_per_node),
        "N",
        "Ranks on this node: a number, `cpu` (one per core), `gpu` (one per visible GPU), or `auto` (GPUs if there are any, else cores).",
    ),
    flag(
        "--rdzv-backend",
        Group::Rendezvous,
        Kind::Text(|o| &mut o.rdzv_backend),
        "NAME",
        "`static` or `c10d`. Any other is run by Python's torchrun.",
    ),
    flag(
        "--rdzv-endpoint",
        Group::Rendezvous,
        Kind::Text(|o| &mut o.rdzv_endpoint),
        "HOST[:PORT]",
        "Where nodes meet; under c10d a list, of which the first is the host's.",
    ),
    flag(
        "--rdzv-id",
        Group::Rendezvous,
        Kind::Text(|o| &mut o.rdzv_id),
        "ID",
        "Name of the run, the same on all nodes.",
    ),
    flag(
        "--rdzv-conf",
        Group::Rendezvous,
        Kind::Text(|o| &mut o.rdzv_conf),
        "K=V,...",
        "More of the rendezvous; unknown keys are ignored.",
    ),
    flag(
        "--standalone",
        Group::Rendezvous,
        Kind::On(|o| &mut o.standalone),
        "",
        "One node, a free port and a run id of its own; other rendezvous flags are ignored.",
    ),
    flag(
        "--max-restarts",
        Group::Lifecycle,
        Kind::Whole(|o| &mut o.max_restarts),
        "N",
        "How often the ranks are started anew after one has failed.",
    ),
    flag(
        "--monitor-interval",
        Group::Lifecycle,
        Kind::Real(|o| &mut o.monitor_interval),
        "SECONDS",
        "Accepted, without effect: nothing is polled, deaths are noticed when they happen.",
    ),
    with_choices(
        &["spawn", "fork", "forkserver"],
        flag(
            "--start-method",
            Group::Workers,
            Kind::Text(|o| &mut o.start_method),
            "METHOD",
            "Of Python's multiprocessing; matters for --run-path only.",
        ),
    ),
    flag(
        "--event-log-handler",
        Group::Logs,
        Kind::Text(|o| &mut o.event_log_handler),
        "NAME",
        "Any other than `null` is run by Python's torchrun.",
    ),
    flag(
        "--role",
        Group::Workers,
        Kind::Text(|o| &mut o.role),
        "NAME",
        "Role of the ranks; part of the console prefix.",
    ),
    with_short(
        "-m",
        flag("--module", Group::Workers, Kind::On(|o| &mut o.module), "", "SCRIPT is a module, run as by `python -m`."),
    ),
    flag(
        "--no-python",
        Group::Workers,
        Kind::On(|o| &mut o.no_python),
        "",
        "SCRIPT is a program that is started without an interpreter.",
    ),
    flag(
        "--run-path",
        Group::Workers,
        Kind::On(|o| &mut o.run_path),
        "",
        "Run SCRIPT by runpy.run_path; done by Python's torchrun.",
    ),
    flag(
        "--log-dir",
        Group::Logs,
        Kind::OptionalText(|o| &mut o.log_dir),
        "DIR",
        "Folder of the logs, made if missing; else one in the folder for temporary files. /dev/null: no files. Logs are never deleted.",
    ),
    with_short(
        "-r",
        flag(
            "--redirects",
            Group::Logs,
            Kind::Text(|o| &mut o.redirects),
            "STREAMS",
            "Streams that go to files: 0 none, 1 stdout, 2 stderr, 3 both; or by local rank: 0:3,1:2.",
        ),
    ),
    with_short(
        "-t",
        flag(
            "--tee",
            Group::Logs,
            Kind::Text(|o| &mut o.tee),
            "STREAMS",
            "Streams that go to files and to the console; as --redirects.",
        ),
    ),
    flag(
        "--local-ranks-filter",
        Group::Logs,
        Kind::Text(|o| &mut o.local_ranks_filter),
        "RANK,...",
        "Show these local ranks alone on the console.",
    ),
    flag(
        "--duplicate-stdout-filters",
        Group::Logs,
        Kind::List(|o| &mut o.duplicate_stdout_filters),
        "TEXT,...",
        "Copy lines of tee'd stdout with one of these texts to filtered_stdout.log (two commas stand for one).",
    ),
    flag(
        "--duplicate-stderr-filters",
        Group::Logs,
        Kind::List(|o| &mut o.duplicate_stderr_filters),
        "TEXT,...",
        "The same for stderr and filtered_stderr.log.",
    ),
    flag(
        "--node-rank",
        Group::Rendezvous,
        Kind::Whole(|o| &mut o.node_rank),
        "N",
        "Rank of this node; for `static` only.",
    ),
    flag(
        "--master-addr",
        Group::Rendezvous,
        Kind::Text(|o| &mut o.master_addr),
        "HOST",
        "Address of node 0; for `static` only.",
    ),
    flag(
        "--master-port",
        Group::Rendezvous,
        Kind::OptionalWhole(|o| &mut o.master_port),
        "PORT",
        "Port on node 0; for `static` only. One node takes a free port if none is given.",
    ),
    flag(
        "--local-addr",
        Group::Rendezvous,
        Kind::OptionalText(|o| &mut o.local_addr),
        "HOST",
        "Address of this node; of no use to a single one.",
    ),
    without_variable(flag(
        "--logs-specs",
        Group::Logs,
        Kind::OptionalText(|o| &mut o.logs_specs),
        "NAME",
        "A Python class for log files; done by Python's torchrun.",
    )),
    without_variable(with_choices(
        &["node", "socket", "exclusive", "core-complex", "auto"],
        flag(
            "--numa-binding",
            Group::Workers,
            Kind::OptionalText(|o| &mut o.numa_binding),
            "MODE",
            "Bind each rank to CPUs near its GPU: all of the GPU's NUMA node, of its socket, a part of the node for this rank alone, cores that share a cache, or `auto`: the node where GPUs are known.",
        ),
    )),
    flag(
        "--signals-to-handle",
        Group::Lifecycle,
        Kind::Text(|o| &mut o.signals_to_handle),
        "SIGNAL,...",
        "Signals that stop the run; each is sent on to the ranks.",
    ),
    flag(
        "--shutdown-timeout",
        Group::Lifecycle,
        Kind::OptionalWhole(|o| &mut o.shutdown_timeout),
        "SECONDS",
        "From the signal that stops a rank to SIGKILL; else $TORCH_ELASTIC_SHUTDOWN_TIMEOUT, else 30.",
    ),
    flag(
        "--virtual-local-rank",
        Group::Workers,
        Kind::On(|o| &mut o.virtual_local_rank),
        "",
        "Every rank sees its own GPU alone, and LOCAL_RANK=0.",
    ),
    without_variable(flag(
        "--use-env",
        Group::Workers,
        Kind::On(|o| &mut o.use_env),
        "",
        "Ranks are told their number by LOCAL_RANK, as they always are; with --legacy-launch, by that alone.",
    )),
    own(
        "--forward-signals",
        Group::Lifecycle,
        Kind::Text(|o| &mut o.forward_signals),
        "SIGNAL,...",
        "Signals that are passed on to the ranks and stop nothing, such as USR1,USR2.",
    ),
    own(
        "--keep-background",
        Group::Lifecycle,
        Kind::On(|o| &mut o.keep_background),
        "",
        "After success, leave descendants of the ranks running.",
    ),
    own(
        "--propagate-exit-code",
        Group::Lifecycle,
        Kind::On(|o| &mut o.propagate_exit_code),
        "",
        "Exit with the code of the rank that failed first (128 + signal if it was killed) instead of 1.",
    ),
    with_choices(
        &["launcher", "rank0"],
        own(
            "--store",
            Group::Rendezvous,
            Kind::Store,
            "OWNER",
            "Who serves the ranks' TCPStore: `launcher`, or `rank0` by itself, as without a launcher.",
        ),
    ),
    with_choices(
        &["off", "safe", "full"],
        own(
            "--nccl-env",
            Group::Workers,
            Kind::Text(|o| &mut o.nccl_env),
            "LEVEL",
            "Set variables for NCCL and Gloo that follow from the plan (`safe`) and from what the machine's provider says of it (`full`); each is printed with its reason.",
        ),
    ),
    own(
        "--outer-grace",
        Group::Lifecycle,
        Kind::OptionalWhole(|o| &mut o.outer_grace),
        "SECONDS",
        "When whoever has started this kills it after SIGTERM: the shutdown timeout ends 3 s before. Else $ZENITH_OUTER_GRACE, under Slurm its KillWait.",
    ),
    own(
        "--dry-run",
        Group::Other,
        Kind::On(|o| &mut o.dry_run),
        "",
        "Print what would be started, where, and with which environment, and exit.",
    ),
    own("--json", Group::Other, Kind::On(|o| &mut o.json), "", "With --dry-run: print it as JSON."),
    own(
        "--plot",
        Group::Other,
        Kind::OptionalText(|o| &mut o.plot),
        "FILE",
        "Draw the machine with its sockets, nodes, cores and GPUs, coloured by rank, as SVG.",
    ),
    own(
        "--loader-cores",
        Group::Workers,
        Kind::OptionalWhole(|o| &mut o.loader_cores),
        "N",
        "Cores of each rank's share that OMP_NUM_THREADS leaves to data loaders; else a quarter where ranks are bound, and none where they are not.",
    ),
    own(
        "--warm",
        Group::Lifecycle,
        Kind::On(|o| &mut o.warm),
        "",
        "Start ranks that replace others as forks of a process that has imported torch already.",
    ),
    own(
        "--warm-modules",
        Group::Lifecycle,
        Kind::OptionalText(|o| &mut o.warm_modules),
        "MODULE,...",
        "With --warm: what that process imports; else torch.",
    ),
    with_choices(
        &["torchrun", "host-rank"],
        own(
            "--log-prefix",
            Group::Logs,
            Kind::Text(|o| &mut o.log_prefix),
            "FORM",
            "What stands before console lines: `torchrun`: [role, local rank] or $TORCHELASTIC_LOG_LINE_PREFIX_TEMPLATE; `host-rank`: this host and the rank among all.",
        ),
    ),
    own(
        "--events-file",
        Group::Logs,
        Kind::OptionalText(|o| &mut o.events_file),
        "FILE",
        "Append a line of JSON with the time of everything that happens to the run: starts, ends, failures, restarts.",
    ),
    own(
        "--metrics-port",
        Group::Logs,
        Kind::OptionalWhole(|o| &mut o.metrics_port),
        "PORT",
        "Serve /metrics (Prometheus) and /healthz on 127.0.0.1; 0 takes a free port and prints it.",
    ),
    own(
        "--hang-timeout",
        Group::Lifecycle,
        Kind::Real(|o| &mut o.hang_timeout),
        "SECONDS",
        "Take ranks for failed that make no progress for so long: no zenith.heartbeat(), else no output in files. Their stacks are saved first. 0: off.",
    ),
    own(
        "--hang-first-timeout",
        Group::Lifecycle,
        Kind::Real(|o| &mut o.hang_first_timeout),
        "SECONDS",
        "With --hang-timeout: how long the first progress may take; else 600, or the hang timeout if that is longer.",
    ),
    own(
        "--python",
        Group::Workers,
        Kind::OptionalText(|o| &mut o.python),
        "FILE",
        "The Python that runs SCRIPT where $PYTHON_EXEC names none, instead of the nearest one.",
    ),
    own(
        "--legacy-launch",
        Group::Workers,
        Kind::On(|o| &mut o.legacy_launch),
        "",
        "Be torch.distributed.launch: unless --use-env is given, ranks get --local-rank=N in front of the script's arguments.",
    ),
    own(
        "--with-parent",
        Group::Lifecycle,
        Kind::OptionalWhole(|o| &mut o.with_parent),
        "PID",
        "Stop, as at SIGTERM, when the process PID ends, which started this one.",
    ),
    own(
        "--outcome-file",
        Group::Other,
        Kind::OptionalText(|o| &mut o.outcome_file),
        "FILE",
        "For a program that started this one: how the run ended, as JSON. To report a failure, and to start Python's torchrun where that is needed, is then up to it.",
    ),
    own(
        "--install-alias",
        Group::Other,
        Kind::InstallAlias,
        "DIR",
        "Make a `torchrun` in DIR that is this program, unless there is one, and exit.",
    ),
    with_choices(
        &["bash", "zsh", "fish"],
        own("--completions", Group::Other, Kind::Completions, "SHELL", "Print completions for a shell, and exit."),
    ),
    own("--version", Group::Other, Kind::Version, "", "Print the version, and exit."),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_split_at_single_commas() {
        for (value, items) in [
            ("a", &["a"][..]),
            ("", &[""]),
            ("apple,pear,,s", &["apple", "pear,s"]),
            ("a,,,b", &["a,", "b"]),
            (",", &["", ""]),
        ] {
            assert_eq!(listed(value), items, "{value:?}");
        }
    }

    #[test]
    fn no_name_is_taken_twice() {
        let mut names: Vec<_> = FLAGS.iter().flat_map(Flag::names).collect();
        let all = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
