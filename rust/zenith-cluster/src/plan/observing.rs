//! What is to be seen of a run while it goes on, and what is taken for a hang.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::settings::{LogFolder, Logs};
use super::{Environment, PlanError, Settings};
use crate::command_line::Options;

/// Tells a rank where `zenith.heartbeat()` leaves its signs of life.
pub(super) const HEARTBEAT_FILE: &str = "ZENITH_HEARTBEAT_FILE";
/// torch's, in seconds.
const UNINTERRUPTIBLE: &str = "TORCHELASTIC_UNINTERRUPTIBLE_STATE_TIMEOUT";
const FIRST: Duration = Duration::from_secs(600);
/// More than any wait that is meant.
const SECONDS_MAX: f64 = 1e9;

/// All of it is off unless it is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observing {
    pub events_file: Option<PathBuf>,
    /// 0: one that is free.
    pub metrics_port: Option<u16>,
    pub hang: Option<HangLimits>,
    /// How long a rank may be in an uninterruptible state (TW-5).
    pub uninterruptible: Option<Duration>,
}

/// How long ranks may be without progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HangLimits {
    pub silence: Duration,
    /// From the start to the first progress; `None`: the first heartbeat, and nothing else, starts the watch.
    pub first: Option<Duration>,
}

pub(super) fn observing(
    options: &Options,
    environment: &Environment,
    logs: &Logs,
    ranks: u32,
    notices: &mut Vec<String>,
) -> Result<Observing, PlanError> {
    let port = |port: i64| {
        let what = format!("--metrics-port must be between 0 and 65535, got {port}");
        u16::try_from(port).map_err(|_| PlanError::Value(what))
    };
    Ok(Observing {
        events_file: options.events_file.as_deref().filter(|file| !file.is_empty()).map(PathBuf::from),
        metrics_port: options.metrics_port.map(port).transpose()?,
        hang: hang(options, logs, ranks, notices)?,
        uninterruptible: environment.text(UNINTERRUPTIBLE).and_then(|text| uninterruptible(&text)),
    })
}

fn hang(
    options: &Options,
    logs: &Logs,
    ranks: u32,
    notices: &mut Vec<String>,
) -> Result<Option<HangLimits>, PlanError> {
    let silence = seconds("--hang-timeout", options.hang_timeout)?;
    let first = seconds("--hang-first-timeout", options.hang_first_timeout)?;
    let Some(silence) = silence else {
        if first.is_some() {
            let what = "--hang-first-timeout is a part of --hang-timeout: give both, or neither";
            return Err(PlanError::Value(what.into()));
        }
        return Ok(None);
    };
    if logs.folder == LogFolder::Nowhere {
        let what =
            "--hang-timeout keeps heartbeats and stacks in the log folder: give a --log-dir other than /dev/null";
        return Err(PlanError::Value(what.into()));
    }
    let has_file = |rank| {
        let streams = logs.redirects.of(rank).and(logs.tee.of(rank));
        streams.stdout || streams.stderr
    };
    if (0..ranks).any(has_file) {
        return Ok(Some(HangLimits { silence, first: Some(first.unwrap_or(FIRST.max(silence))) }));
    }
    let from = if first.is_some() { "" } else { ", and nothing is noticed before the first one" };
    notices.push(format!(
        "--hang-timeout: no output goes to a file, so zenith.heartbeat() alone counts as progress{from}; -t 3 shows output and keeps it in files"
    ));
    Ok(Some(HangLimits { silence, first }))
}

/// `None` for 0.
fn seconds(flag: &str, seconds: f64) -> Result<Option<Duration>, PlanError> {
    if seconds == 0.0 {
        return Ok(None);
    }
    if !(seconds > 0.0 && seconds <= SECONDS_MAX) {
        return Err(PlanError::Value(format!("{flag} must be a number of seconds above 0, got {seconds}")));
    }
    Ok(Some(Duration::from_secs_f64(seconds)))
}

/// What torch cannot read, or is not above 0, is off.
fn uninterruptible(text: &str) -> Option<Duration> {
    let seconds = crate::command_line::real(text).filter(|seconds| *seconds > 0.0)?;
    Some(Duration::from_secs_f64(seconds.min(SECONDS_MAX)))
}

/// The template that console lines begin with; a flag is nearer than a variable.
pub(super) fn prefix(options: &Options, environment: &Environment, host: &str) -> Option<OsString> {
    if options.log_prefix == "host-rank" {
        return Some(format!("[{}:${{rank}}]:", host.replace('$', "$$")).into());
    }
    let template = environment.get("TORCHELASTIC_LOG_LINE_PREFIX_TEMPLATE");
    template.filter(|template| !template.is_empty()).map(Into::into)
}

impl Settings {
    /// Where a rank leaves its signs of life, if anybody looks at them.
    pub(crate) fn heartbeat_file(&self, attempt: Option<&Path>, local_rank: u32) -> Option<PathBuf> {
        self.observing.hang?;
        attempt.map(|attempt| attempt.join(local_rank.to_string()).join("heartbeat"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::StreamsOfRanks;

    fn logs(tee: &str, folder: LogFolder) -> Logs {
        Logs {
            folder,
            redirects: StreamsOfRanks::parse("0").expect("streams"),
            tee: StreamsOfRanks::parse(tee).expect("streams"),
            shown: Default::default(),
            prefix: None,
            duplicate_stdout: Vec::new(),
            duplicate_stderr: Vec::new(),
        }
    }

    fn hung(silence: f64, first: f64, logs: &Logs) -> (Result<Option<HangLimits>, PlanError>, usize) {
        let options = Options { hang_timeout: silence, hang_first_timeout: first, ..Options::default() };
        let mut notices = Vec::new();
        (hang(&options, logs, 2, &mut notices), notices.len())
    }

    #[test]
    fn the_first_progress_may_take_longer_and_needs_something_to_go_by() {
        let limits = |silence, first: Option<u64>| {
            Ok(Some(HangLimits { silence: Duration::from_secs(silence), first: first.map(Duration::from_secs) }))
        };
        let (files, console) = (logs("1:1", LogFolder::Temporary), logs("0", LogFolder::Temporary));
        assert_eq!(hung(30.0, 0.0, &files), (limits(30, Some(600)), 0));
        assert_eq!(hung(3000.0, 0.0, &files), (limits(3000, Some(3000)), 0));
        assert_eq!(hung(30.0, 20.0, &files), (limits(30, Some(20)), 0));
        assert_eq!(hung(30.0, 0.0, &console), (limits(30, None), 1));
        assert_eq!(hung(30.0, 20.0, &console), (limits(30, Some(20)), 1));
        assert_eq!(hung(0.0, 0.0, &console), (Ok(None), 0));
        for (silence, first) in [(-1.0, 0.0), (f64::NAN, 0.0), (f64::INFINITY, 0.0), (1.0, -1.0), (0.0, 1.0)] {
            assert!(hung(silence, first, &files).0.is_err(), "{silence} {first}");
        }
        assert!(hung(1.0, 0.0, &logs("3", LogFolder::Nowhere)).0.is_err());
    }

    #[test]
    fn torchs_variable_is_off_unless_it_is_a_number_above_zero() {
        for text in ["", "x", "0", "-1", "nan"] {
            assert_eq!(uninterruptible(text), None, "{text}");
        }
        assert_eq!(uninterruptible(" 1.5 "), Some(Duration::from_millis(1500)));
        assert_eq!(uninterruptible("inf"), Some(Duration::from_secs(1_000_000_000)));
    }

    #[test]
    fn ports_are_ports() {
        for (port, expected) in [(0, Some(0)), (65535, Some(65535)), (65536, None), (-1, None)] {
            let options = Options { metrics_port: Some(port), ..Options::default() };
            let seen =
                observing(&options, &Environment::default(), &logs("0", LogFolder::Temporary), 1, &mut Vec::new());
            assert_eq!(seen.ok().and_then(|seen| seen.metrics_port), expected);
        }
    }

    #[test]
    fn the_host_may_stand_before_console_lines() {
        let variable = [("TORCHELASTIC_LOG_LINE_PREFIX_TEMPLATE", "<${rank}>")].into_iter().collect();
        let with = |form: &str| prefix(&Options { log_prefix: form.into(), ..Options::default() }, &variable, "n$1");
        assert_eq!(with("torchrun"), Some("<${rank}>".into()));
        assert_eq!(with("host-rank"), Some("[n$$1:${rank}]:".into()));
    }
}
