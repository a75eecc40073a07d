//! Runs a command several times as a gang: `gang [OPTION=VALUE ..] COUNT COMMAND ..`.
//!
//! Options: `grace` (seconds), `forwards` (a signal's number), `keeps=1` (background processes), `attempts`, `log` (a folder
//! for the ranks' output), `broken` (the rank whose program does not exist), `warm` (modules of a template: the command is a Python
//! with `-u`), `limit` (seconds for their import), `pins=1` (ranks are bound to a CPU of their own and to memory of node 0). Tells
//! what happens on stderr, one line each; ends with 0, 1 or, if a signal stopped it, 2.

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use zenith_cluster::gang::{Gang, Outcome, Rules};
use zenith_cluster::placement::CpuSet;
use zenith_cluster::worker::{Binding, Output, Worker};

fn main() -> ExitCode {
    let gang = match Gang::start() {
        Ok(gang) => gang,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(3);
        }
    };
    match run(gang) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(3)
        }
    }
}

fn run(mut gang: Gang) -> Result<u8, Box<dyn std::error::Error>> {
    let mut rules = Rules {
        grace: Duration::from_secs(30),
        stops: vec![libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT],
        forwards: Vec::new(),
        keeps_background: false,
    };
    let (mut attempts, mut log, mut broken) = (1, None, None);
    let (mut warm, mut limit, mut pins) = (Vec::new(), Duration::from_secs(60), false);
    let mut arguments = std::env::args().skip(1).peekable();
    while let Some((name, value)) = arguments.peek().and_then(|text| text.split_once('=')) {
        match name {
            "grace" => rules.grace = Duration::from_secs_f64(value.parse()?),
            "forwards" => rules.forwards.push(value.parse()?),
            "keeps" => rules.keeps_background = value == "1",
            "attempts" => attempts = value.parse()?,
            "log" => log = Some(std::path::PathBuf::from(value)),
            "warm" => warm = value.split(',').map(String::from).collect(),
            "pins" => pins = value == "1",
            "limit" => limit = Duration::from_secs_f64(value.parse()?),
            "broken" => broken = Some(value.parse()?),
            _ => return Err(format!("no option is called {name}").into()),
        }
        arguments.next();
    }
    let count: u32 = arguments.next().ok_or("the number of ranks is missing")?.parse()?;
    let program: OsString = arguments.next().ok_or("the command is missing")?.into();
    let rest: Vec<OsString> = arguments.map(OsString::from).collect();
    let worker = |rank: u32| {
        let mut environment: Vec<(OsString, OsString)> = std::env::vars_os().collect();
        environment.push(("RANK".into(), rank.to_string().into()));
        let output = log.as_ref().map_or(Output::Inherited, |log| Output::File(log.join(rank.to_string())));
        Worker {
            local_rank: rank,
            rank,
            program: if broken == Some(rank) { "/nonexistent/program".into() } else { program.clone() },
            arguments: rest.clone(),
            environment,
            stdout: output.clone(),
            stderr: output,
            binding: pins.then(|| binding(rank)),
        }
    };
    let workers: Vec<Worker> = (0..count).map(worker).collect();
    gang.tell(|notice| {
        let _ = writeln!(std::io::stderr(), "{notice}");
    });
    if !warm.is_empty() {
        gang.warm(&workers, &warm, limit)?;
    }
    let mut code = 1;
    for attempt in 0..attempts {
        if attempt > 0 && gang.pause(Duration::from_millis(100), &rules)?.is_some() {
            return Ok(2);
        }
        code = match gang.run(&workers, &rules)? {
            Outcome::Succeeded(_) => return Ok(0),
            Outcome::Failed(_) | Outcome::Withdrawn(_) => 1,
            Outcome::Stopped { .. } => return Ok(2),
        };
    }
    Ok(code)
}

fn binding(rank: u32) -> Binding {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).and_then(CpuSet::parse);
    let cpus: Vec<u32> = allowed.iter().flat_map(CpuSet::iter).collect();
    let cpu = cpus.get(rank as usize % cpus.len().max(1)).copied().unwrap_or(0);
    Binding { cpus: [cpu].into_iter().collect(), memory_node: Some(0) }
}
