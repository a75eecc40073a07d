//! How long a gang takes to start and to notice a death, and what launcher and guardian hold: medians of several turns.
//!
//! The worker is a static C program of a few lines (`cc` is needed) that writes CLOCK_MONOTONIC as its first instruction in
//! `main`, into a file of its own. Each turn is a launcher of its own, as users start it: this very program, called again.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::time::ClockId;
use zenith_cluster::gang::{Gang, Notice, Rules};
use zenith_cluster::worker::{Output, Worker};

const TURNS: usize = 21;
const WORKER: &str = r#"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
static void write_now(const char *path) {
    struct timespec now;
    char text[32];
    clock_gettime(CLOCK_MONOTONIC, &now);
    int length = snprintf(text, sizeof text, "%lld", now.tv_sec * 1000000000LL + now.tv_nsec);
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    if (write(file, text, length) != length) _exit(9);
}
int main(int count, char **arguments) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s.begun", arguments[1], getenv("RANK"));
    write_now(path);
    usleep(100000);
    if (getenv("RANK")[0] != '0' || getenv("RANK")[1]) { pause(); }
    snprintf(path, sizeof path, "%s/ends", arguments[1]);
    write_now(path);
    _exit(1);
}
"#;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    if let [folder, count] = &arguments[..] {
        return launch(Path::new(folder), count.to_string_lossy().parse()?);
    }
    let folder = tempfile::tempdir()?;
    let source = folder.path().join("worker.c");
    std::fs::write(&source, WORKER)?;
    let worker = folder.path().join("worker");
    let built = Command::new("cc").args(["-O1", "-static", "-o"]).arg(&worker).arg(&source).status()?;
    if !built.success() {
        return Err("cc cannot build the worker".into());
    }
    for count in [1, 2, 64] {
        let mut turns = Vec::new();
        for _ in 0..TURNS {
            turns.push(turn(folder.path(), count)?);
        }
        let median = |of: fn(&Turn) -> f64| {
            let mut values: Vec<f64> = turns.iter().map(of).collect();
            values.sort_by(f64::total_cmp);
            format!("{:.2} (worst {:.2})", values[values.len() / 2], values[values.len() - 1])
        };
        println!("{count} ranks, {TURNS} turns, medians");
        println!("  launcher's start to the first rank's first instruction, ms: {}", median(|turn| turn.first));
        println!("  launcher's start to the last rank's first instruction, ms: {}", median(|turn| turn.last));
        println!("  a death to its notice, ms: {}", median(|turn| turn.noticed));
        println!("  a death to the end of all, ms: {}", median(|turn| turn.over));
        println!("  launcher and guardian, resident MB: {}", median(|turn| turn.resident));
        println!("  launcher and guardian, proportional MB: {}", median(|turn| turn.proportional));
    }
    Ok(())
}

/// What a turn has shown, in milliseconds and megabytes.
struct Turn {
    first: f64,
    last: f64,
    noticed: f64,
    over: f64,
    resident: f64,
    proportional: f64,
}

fn turn(folder: &Path, count: u32) -> Result<Turn, Box<dyn std::error::Error>> {
    let start = now();
    let output = Command::new(std::env::current_exe()?)
        .arg(folder)
        .arg(count.to_string())
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    let over = now();
    let told = String::from_utf8(output.stdout)?;
    let value = |name: &str| -> Result<f64, Box<dyn std::error::Error>> {
        let line = told.lines().find_map(|line| line.strip_prefix(name)).ok_or(format!("no {name} in {told:?}"))?;
        Ok(line.trim().parse()?)
    };
    let read = |name: String| -> Result<f64, Box<dyn std::error::Error>> {
        Ok(std::fs::read_to_string(folder.join(name))?.parse()?)
    };
    let begun = (0..count).map(|rank| read(format!("{rank}.begun"))).collect::<Result<Vec<_>, _>>()?;
    let ends = read("ends".to_owned())?;
    Ok(Turn {
        first: (begun.iter().copied().fold(f64::INFINITY, f64::min) - start) / 1e6,
        last: (begun.iter().copied().fold(0.0, f64::max) - start) / 1e6,
        noticed: (value("noticed")? - ends) / 1e6,
        over: (over - ends) / 1e6,
        resident: value("resident")?,
        proportional: value("proportional")?,
    })
}

/// The launcher of one turn: its first rank fails after a tenth of a second.
fn launch(folder: &Path, count: u32) -> Result<(), Box<dyn std::error::Error>> {
    let mut gang = Gang::start()?;
    let rules =
        Rules { grace: Duration::from_secs(5), stops: vec![libc::SIGTERM], forwards: vec![], keeps_background: false };
    let worker = |rank: u32| {
        let mut environment: Vec<(OsString, OsString)> = std::env::vars_os().collect();
        environment.push(("RANK".into(), rank.to_string().into()));
        Worker {
            local_rank: rank,
            rank,
            program: folder.join("worker").into(),
            arguments: vec![folder.into()],
            environment,
            stdout: Output::Inherited,
            stderr: Output::Inherited,
        }
    };
    let workers: Vec<Worker> = (0..count).map(worker).collect();
    let mut is_first = true;
    gang.tell(move |notice| {
        if matches!(notice, Notice::Ended(_)) && std::mem::take(&mut is_first) {
            println!("noticed {}", now());
            let megabytes = |name| memory("self", name) + memory(&guardian(), name);
            println!("resident {}\nproportional {}", megabytes("Rss:"), megabytes("Pss:"));
        }
    });
    gang.run(&workers, &rules)?;
    Ok(())
}

fn guardian() -> String {
    let own = std::process::id();
    let children = std::fs::read_to_string(format!("/proc/{own}/task/{own}/children")).unwrap_or_default();
    children.split_ascii_whitespace().next().unwrap_or_default().to_owned()
}

fn memory(pid: &str, name: &str) -> f64 {
    let sums = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = sums.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.split_ascii_whitespace().next().and_then(|kib| kib.parse::<f64>().ok()).map_or(0.0, |kib| kib / 1024.0)
}

/// CLOCK_MONOTONIC in nanoseconds.
fn now() -> f64 {
    let now = rustix::time::clock_gettime(ClockId::Monotonic);
    now.tv_sec as f64 * 1e9 + now.tv_nsec as f64
}
