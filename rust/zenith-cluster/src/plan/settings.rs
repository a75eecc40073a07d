//! Options made definite: checked against each other, the environment and the machine, in torchrun's order.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use uuid::Uuid;

use super::grace::grace;
use super::observing::{Observing, observing, prefix};
use super::placement::{Placement, place};
use super::rendezvous::{configuration, static_meeting};
use super::{Environment, Interpreter, Meeting, Nodes, PlanError, StreamsOfRanks, counts, nodes, warm};
use crate::command_line::{Options, StoreOwner, whole};
use crate::gang::Rules;
use crate::placement::{Situation, Topology};
use crate::signals;

/// What is known of this machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Machine {
    /// Cores that this process may use.
    pub cpus: u32,
    /// Devices of the GPU driver, seen or not.
    pub gpus: u32,
    /// Where this program lies.
    pub program_folder: Option<PathBuf>,
    /// If anything asks for it.
    pub topology: Option<Topology>,
    /// What is known without the plan.
    pub nccl: Situation,
    /// For log folders that nobody named.
    pub temporary_folder: PathBuf,
    /// How long after SIGTERM Slurm kills, if this runs under it and it is known.
    pub slurm_kill_wait: Option<Duration>,
    /// Its short name.
    pub host: String,
}

/// Who runs a command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    Here(Box<Settings>),
    /// Python's torchrun, because of what stands here.
    Python(String),
}

/// All that holds for every attempt of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub ranks: u32,
    pub role: String,
    pub run_id: String,
    pub max_restarts: u32,
    pub meeting: Meeting,
    /// Those that this node meets; `None` if it is alone.
    pub nodes: Option<Nodes>,
    pub store: StoreOwner,
    /// The interpreter, unless the script is a program itself.
    pub interpreter: Option<Interpreter>,
    pub module: bool,
    pub script: OsString,
    pub arguments: Vec<OsString>,
    /// With --virtual-local-rank: the GPU of each rank.
    pub gpus: Option<Vec<String>>,
    pub logs: Logs,
    pub rules: Rules,
    pub observing: Observing,
    pub propagate_exit_code: bool,
    /// What the template of warm starts imports; `None` without one.
    pub warm: Option<Vec<String>>,
    pub placement: Placement,
    pub dry_run: bool,
    /// The dry run's form.
    pub json: bool,
    /// Where the picture goes.
    pub plot: Option<PathBuf>,
    /// What ranks inherit.
    pub environment: Environment,
    /// To be printed once.
    pub notices: Vec<String>,
}

/// Which streams go where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logs {
    pub folder: LogFolder,
    pub redirects: StreamsOfRanks,
    pub tee: StreamsOfRanks,
    /// Local ranks that are shown; all if empty.
    pub shown: BTreeSet<i64>,
    /// A template; `None` is torchrun's own.
    pub prefix: Option<OsString>,
    pub duplicate_stdout: Vec<String>,
    pub duplicate_stderr: Vec<String>,
}

/// What run folders are made in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogFolder {
    /// `--log-dir=/dev/null`: there are no files.
    Nowhere,
    /// A new one in the folder for temporary files.
    Temporary,
    At(PathBuf),
}

/// `random` names the run if nothing else does.
pub fn decide(
    options: Options,
    mut environment: Environment,
    machine: &Machine,
    python: Interpreter,
    random: Uuid,
) -> Result<Decision, PlanError> {
    if let Some(reason) = pythons_own(&options, &environment) {
        let own = options.not_torchruns();
        if own.is_empty() {
            return Ok(Decision::Python(reason));
        }
        return Err(PlanError::Unsupported(format!(
            "{reason} is left to Python's torchrun, which has no {}",
            own.join(", ")
        )));
    }
    if options.json && !options.dry_run {
        return Err(PlanError::Value("--json is a form of --dry-run: give both, or neither".into()));
    }
    let mut notices = Vec::new();
    let (least, most) = counts::nodes(&options.nnodes)?;
    let max_restarts = u32::try_from(options.max_restarts.min(i64::from(u32::MAX)))
        .map_err(|_| PlanError::Assertion("max_restarts must be >= 0".into()))?;
    let ranks = counts::local_ranks(&options.nproc_per_node, machine, &environment)?;
    configuration(&options.rdzv_conf)?;
    let logs = logs(&options, &environment, &machine.host)?;
    let observing = observing(&options, &environment, &logs, ranks, &mut notices)?;
    let grace = grace(&options, &environment, machine, &mut notices)?;
    if options.no_python && options.module {
        let what = "Don't use both the '--no-python' flag and the '--module' flag at the same time.";
        return Err(PlanError::Value(what.into()));
    }
    let local_rank = legacy_local_rank(&options)?;
    let nodes = nodes::nodes((least, most), max_restarts, &options, &environment)?;
    let meeting = meeting(&options, nodes.is_some())?;
    match &nodes {
        None => one_node(&options, &meeting, &mut notices)?,
        Some(nodes) if nodes.run_id.is_some() => notices.push(format!(
            "this Slurm step has {} nodes, which meet at {} port {}; --standalone runs each alone",
            nodes.terms.most, nodes.host, nodes.port
        )),
        Some(_) => {}
    }
    let placement = place(&options, ranks, nodes.is_none(), machine, &mut environment, &mut notices)?;
    let rules = Rules {
        grace,
        stops: stops(&options.signals_to_handle, &mut notices),
        forwards: forwards(&options.forward_signals)?,
        keeps_background: options.keep_background,
    };
    let warm = warm::modules(&options, max_restarts, nodes.as_ref(), &mut notices)?;
    environment.set("TORCHELASTIC_SIGNALS_TO_HANDLE", options.signals_to_handle.as_str());
    Ok(Decision::Here(Box::new(Settings {
        ranks,
        run_id: run_id(&options, nodes.as_ref(), random),
        store: store(&options, &meeting, &environment),
        gpus: options.virtual_local_rank.then(|| gpus_of_ranks(ranks, &environment)).transpose()?,
        role: options.role,
        max_restarts,
        meeting,
        nodes,
        interpreter: (!options.no_python).then_some(python),
        module: options.module,
        script: options.training_script,
        arguments: local_rank.into_iter().chain(options.training_script_args).collect(),
        logs,
        rules,
        observing,
        propagate_exit_code: options.propagate_exit_code,
        warm,
        placement,
        dry_run: options.dry_run,
        json: options.json,
        plot: options.plot.map(PathBuf::from),
        environment,
        notices,
    })))
}

/// What only Python can do: its own handlers, back ends and interpreters' insides.
fn pythons_own(options: &Options, environment: &Environment) -> Option<String> {
    let backend = options.rdzv_backend.as_str();
    if options.run_path {
        Some("--run-path".into())
    } else if let Some(name) = &options.logs_specs {
        Some(format!("--logs-specs={name}"))
    } else if options.event_log_handler != "null" {
        Some(format!("--event-log-handler={}", options.event_log_handler))
    } else if !options.standalone && !matches!(backend, "static" | "c10d") {
        Some(format!("--rdzv-backend={backend}"))
    } else if options.nproc_per_node == "xpu" {
        Some("--nproc-per-node=xpu".into())
    } else if environment.get("TORCHELASTIC_ENABLE_FILE_TIMER").is_some_and(|value| value == "1") {
        Some("TORCHELASTIC_ENABLE_FILE_TIMER=1".into())
    } else {
        None
    }
}

fn logs(options: &Options, environment: &Environment, host: &str) -> Result<Logs, PlanError> {
    let shown = match options.local_ranks_filter.as_str() {
        "" => Some(BTreeSet::new()),
        text => text.split(',').map(|rank| whole(rank).ok()).collect(),
    };
    let shown = shown.ok_or_else(|| {
        let what = "--local_ranks_filter must be a comma-separated list of integers e.g. --local_ranks_filter=0,1,2";
        PlanError::Value(what.into())
    })?;
    Ok(Logs {
        folder: match options.log_dir.as_deref() {
            None | Some("") => LogFolder::Temporary,
            Some("/dev/null") => LogFolder::Nowhere,
            Some(folder) => LogFolder::At(folder.into()),
        },
        redirects: StreamsOfRanks::parse(&options.redirects)?,
        tee: StreamsOfRanks::parse(&options.tee)?,
        shown,
        prefix: prefix(options, environment, host),
        duplicate_stdout: options.duplicate_stdout_filters.clone(),
        duplicate_stderr: options.duplicate_stderr_filters.clone(),
    })
}

/// What torch.distributed.launch puts in front of the script's arguments (T-58). It is filled in as all of them are (T-15).
fn legacy_local_rank(options: &Options) -> Result<Option<OsString>, PlanError> {
    if !options.legacy_launch || options.use_env {
        return Ok(None);
    }
    if options.no_python {
        let what = "When using the '--no-python' flag, you must also set the '--use-env' flag.";
        return Err(PlanError::Value(what.into()));
    }
    Ok(Some("--local-rank=${local_rank}".into()))
}

fn meeting(options: &Options, is_shared: bool) -> Result<Meeting, PlanError> {
    let is_static = !options.standalone && options.rdzv_backend == "static";
    let is_given = !options.rdzv_endpoint.is_empty() || options.master_port.is_some();
    if !is_static || !(is_given || is_shared) {
        return Ok(Meeting::FreePort);
    }
    static_meeting(&options.rdzv_endpoint, &options.master_addr, options.master_port)
}

fn one_node(options: &Options, meeting: &Meeting, notices: &mut Vec<String>) -> Result<(), PlanError> {
    if options.node_rank == 0 {
        return Ok(());
    }
    match meeting {
        Meeting::FreePort => {
            notices.push(format!("--node-rank={} is ignored: there is one node", options.node_rank));
            Ok(())
        }
        Meeting::At { .. } => Err(PlanError::Value(format!(
            "node_rank must be 0 where --nnodes is 1, got {}; give --nnodes, or leave --node-rank out",
            options.node_rank
        ))),
    }
}

/// Unknown names are no more than a warning (T-41).
fn stops(names: &str, notices: &mut Vec<String>) -> Vec<i32> {
    let mut stops = Vec::new();
    for name in names.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        match signals::number(name) {
            Some(signal) if signals::can_be_caught(signal) => stops.push(signal),
            _ => notices.push(format!("--signals-to-handle: {name} is no signal that can be handled; ignored")),
        }
    }
    stops
}

/// With or without SIG.
fn forwards(names: &str) -> Result<Vec<i32>, PlanError> {
    let number = |name: &str| signals::number(name).or_else(|| signals::number(&format!("SIG{name}")));
    let names = names.split(',').map(str::trim).filter(|name| !name.is_empty());
    names
        .map(|name| {
            number(name).filter(|&signal| signals::can_be_caught(signal)).ok_or_else(|| {
                PlanError::Value(format!(
                    "--forward-signals: {name} is no signal that can be handled. Give names such as USR1,USR2"
                ))
            })
        })
        .collect()
}

fn run_id(options: &Options, nodes: Option<&Nodes>, random: Uuid) -> String {
    if let Some(managed) = nodes.and_then(|nodes| nodes.run_id.clone()) {
        return managed;
    }
    // Nodes that meet must name the run alike.
    let is_plain = nodes.is_none()
        && options.rdzv_backend == "static"
        && options.rdzv_endpoint.is_empty()
        && options.master_port.is_none();
    if options.standalone || is_plain {
        random.to_string()
    } else if options.rdzv_id.is_empty() {
        random.as_u128().to_string()
    } else {
        options.rdzv_id.clone()
    }
}

fn store(options: &Options, meeting: &Meeting, environment: &Environment) -> StoreOwner {
    let is_shared = environment.get("TORCH_DISABLE_SHARE_RDZV_TCP_STORE").is_none_or(|value| value != "1");
    if *meeting == Meeting::FreePort && !is_shared { StoreOwner::Rank0 } else { options.store }
}

/// One of the visible GPUs each (T-22).
fn gpus_of_ranks(ranks: u32, environment: &Environment) -> Result<Vec<String>, PlanError> {
    let visible = environment.text("CUDA_VISIBLE_DEVICES");
    let gpu = |rank: u32| match &visible {
        None => Ok(rank.to_string()),
        Some(list) => list.split(',').nth(rank as usize).map(|gpu| gpu.trim().to_owned()).ok_or_else(|| {
            PlanError::Value(format!("local_rank {rank} exceeds available GPUs in CUDA_VISIBLE_DEVICES={list}"))
        }),
    };
    (0..ranks).map(gpu).collect()
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
