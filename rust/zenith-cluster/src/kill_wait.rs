//! Slurm's KillWait: how long after SIGTERM it kills a step.
//!
//! A job's environment does not have it. Its configuration is on every node, and reading it costs the controller nothing, which
//! matters where thousands of launchers start together. Where it is not found the controller is asked, for as long as a start
//! may be held up.

use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::listening::said;
use crate::plan::Environment;

/// Where packages, "configless" nodes and providers have it, under the root.
const PLACES: [&str; 5] = [
    "run/slurm/conf/slurm.conf",
    "etc/slurm/slurm.conf",
    "etc/slurm-llnl/slurm.conf",
    "usr/local/etc/slurm.conf",
    "opt/slurm/etc/slurm.conf",
];
/// Of a configuration that does not say it.
const DEFAULT: Duration = Duration::from_secs(30);
const ASK_MAX: Duration = Duration::from_secs(1);
const FILE_BYTES_MAX: u64 = 16 << 20;
/// A configuration may include others, which may include others.
const DEPTH_MAX: u32 = 4;

/// `None` where it cannot be known.
pub(crate) fn kill_wait(environment: &Environment, root: &Path) -> Option<Duration> {
    let named = environment.get("SLURM_CONF").filter(|path| !path.is_empty()).map(PathBuf::from);
    let places = match named {
        Some(path) => vec![path],
        None => PLACES.iter().map(|place| root.join(place)).collect(),
    };
    let configured = places.iter().find_map(|place| {
        let text = read(place)?;
        Some(of_file(&text, place, DEPTH_MAX).unwrap_or(DEFAULT))
    });
    configured.or_else(|| asked(environment))
}

fn read(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    std::fs::File::open(path).ok()?.take(FILE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The last one counts.
fn of_file(text: &str, path: &Path, depth: u32) -> Option<Duration> {
    let mut found = None;
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default();
        found = value(line).or(found);
        let mut words = line.split_ascii_whitespace();
        if depth > 0
            && words.next().is_some_and(|word| word.eq_ignore_ascii_case("include"))
            && let Some(included) = words.next()
        {
            let included = path.parent().unwrap_or(Path::new("/")).join(included);
            found = read(&included).and_then(|text| of_file(&text, &included, depth - 1)).or(found);
        }
    }
    found
}

/// Of `KillWait=30`, in any case and with blanks; `scontrol` writes `KillWait                = 30 sec`.
fn value(line: &str) -> Option<Duration> {
    let line = line.to_ascii_lowercase();
    let (before, behind) = line.split_once("killwait")?;
    if before.ends_with(|character: char| character.is_ascii_alphanumeric()) {
        return None;
    }
    let number = behind.trim_start().strip_prefix('=')?.trim_start().trim_start_matches('"');
    let digits = number.find(|character: char| !character.is_ascii_digit()).unwrap_or(number.len());
    number[..digits].parse().ok().map(Duration::from_secs)
}

/// What the controller says, if it does so in time. Comes before the gang, which reaps all children.
fn asked(environment: &Environment) -> Option<Duration> {
    let path = environment.get("PATH").map(OsString::from).unwrap_or_default();
    let mut command = Command::new("scontrol");
    command.args(["show", "config"]).env("PATH", path);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut asked = command.spawn().ok()?;
    let said = asked.stdout.take().map(|stdout| said(stdout, Instant::now() + ASK_MAX, FILE_BYTES_MAX as usize));
    let text = String::from_utf8_lossy(&said.unwrap_or_default()).into_owned();
    // It has said what it had to say, or will not.
    let _ = asked.kill();
    let _ = asked.wait();
    text.lines().find_map(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(number: u64) -> Option<Duration> {
        Some(Duration::from_secs(number))
    }

    #[test]
    fn a_line_says_it_or_does_not() {
        for (line, known) in [
            ("KillWait=45", seconds(45)),
            ("  killwait = \"7\"  Waittime=0", seconds(7)),
            ("WaitTime=0 KILLWAIT=8", seconds(8)),
            ("KillWait                = 30 sec", seconds(30)),
            ("KillWait", None),
            ("KillWait=soon", None),
            ("UnkillWait=9", None),
            ("KillOnBadExit=1", None),
        ] {
            assert_eq!(value(line), known, "{line:?}");
        }
    }

    #[test]
    fn the_configuration_is_found_and_its_inclusions_are_followed() {
        let root = tempfile::tempdir().expect("a folder");
        let folder = root.path().join("etc/slurm");
        std::fs::create_dir_all(&folder).expect("a folder");
        let none = Environment::default();
        assert_eq!(kill_wait(&none, root.path()), None, "no configuration, and no PATH to ask by");
        std::fs::write(folder.join("slurm.conf"), "ClusterName=a # KillWait=1\n").expect("a file");
        assert_eq!(kill_wait(&none, root.path()), Some(DEFAULT));
        std::fs::write(folder.join("slurm.conf"), "KillWait=5\nInclude times.conf\n").expect("a file");
        assert_eq!(kill_wait(&none, root.path()), seconds(5), "what is missing is not included");
        std::fs::write(folder.join("times.conf"), "include times.conf\nKillWait=60").expect("a file");
        assert_eq!(kill_wait(&none, root.path()), seconds(60));
        let named = root.path().join("other.conf");
        std::fs::write(&named, "KillWait=9").expect("a file");
        let environment = [("SLURM_CONF", named.to_str().expect("text"))].into_iter().collect();
        assert_eq!(kill_wait(&environment, root.path()), seconds(9));
    }

    #[test]
    fn the_controller_is_asked_where_there_is_no_configuration_and_not_for_long() {
        let root = tempfile::tempdir().expect("a folder");
        let scontrol = root.path().join("scontrol");
        let path = format!("{}:/usr/bin:/bin", root.path().display());
        let environment: Environment = [("PATH", path.as_str())].into_iter().collect();
        let answers = |script: &str| {
            // By a process of its own: a program cannot be started while a fork of another test has it open for writing.
            let write = "printf '#!/bin/sh\\n%s' \"$2\" > \"$1\" && chmod 755 \"$1\"";
            let written = Command::new("sh").args(["-c", write, "sh"]).arg(&scontrol).arg(script).status();
            assert!(written.is_ok_and(|status| status.success()), "no program");
            kill_wait(&environment, root.path())
        };
        let says = "[ \"$*\" = 'show config' ] && printf 'JobRequeue = 1\\nKillWait                = 42 sec\\n'";
        assert_eq!(answers(says), seconds(42));
        assert_eq!(answers("exit 1"), None);
        let began = Instant::now();
        assert_eq!(answers("exec sleep 1000"), None);
        assert!(began.elapsed() >= ASK_MAX && began.elapsed() < 10 * ASK_MAX, "{:?}", began.elapsed());
    }
}
