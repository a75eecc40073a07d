//! The numbers of a run, counted from its events, in Prometheus' text form; and whether all is well.

use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;

use super::event::Event;

/// Where a run is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Starting,
    Rendezvous,
    Spawning,
    Running,
    Stopping,
    Restarting,
    Over,
}

const PHASES: [(Phase, &str); 7] = [
    (Phase::Starting, "starting"),
    (Phase::Rendezvous, "rendezvous"),
    (Phase::Spawning, "spawning"),
    (Phase::Running, "running"),
    (Phase::Stopping, "stopping"),
    (Phase::Restarting, "restarting"),
    (Phase::Over, "over"),
];

#[derive(Debug)]
pub(super) struct Metrics {
    run_id: String,
    local_ranks: u32,
    began: (SystemTime, Instant),
    phase: Phase,
    /// Why all is not well; until the ranks of the next attempt run.
    trouble: Option<String>,
    attempts: u64,
    restarts: u64,
    failures: u64,
    hangs: u64,
    /// Of the present attempt.
    started: u32,
    spawned: Option<Instant>,
    /// From the decision to start the ranks of the last attempt to the start of the last of them.
    start_time: Option<Duration>,
    backoff_seconds: f64,
    lines_lost: u64,
    /// By rank.
    silences: BTreeMap<u32, Duration>,
}

impl Metrics {
    pub(super) fn new(run_id: &str, local_ranks: u32) -> Self {
        Self {
            run_id: run_id.into(),
            local_ranks,
            began: (SystemTime::now(), Instant::now()),
            phase: Phase::Starting,
            trouble: None,
            attempts: 0,
            restarts: 0,
            failures: 0,
            hangs: 0,
            started: 0,
            spawned: None,
            start_time: None,
            backoff_seconds: 0.0,
            lines_lost: 0,
            silences: BTreeMap::new(),
        }
    }

    pub(super) fn note(&mut self, event: &Event, now: Instant) {
        match event {
            Event::Start { .. }
            | Event::RendezvousDecided { .. }
            | Event::Outlived { .. }
            | Event::Removed { .. }
            | Event::Warm { .. }
            | Event::Cold { .. }
            | Event::RankEnded { .. } => {}
            Event::RendezvousJoined { .. } => self.phase = Phase::Rendezvous,
            Event::Spawn { .. } => {
                self.phase = Phase::Spawning;
                (self.attempts, self.started, self.spawned) = (self.attempts + 1, 0, Some(now));
                self.silences.clear();
            }
            Event::RankStarted { .. } => {
                self.started += 1;
                if self.started == self.local_ranks && self.phase == Phase::Spawning {
                    (self.phase, self.trouble) = (Phase::Running, None);
                    self.start_time = self.spawned.map(|spawned| now.saturating_duration_since(spawned));
                }
            }
            Event::FailureSeen { what } => {
                self.failures += 1;
                self.trouble = Some(what.clone());
            }
            Event::Hang { what, .. } => {
                (self.failures, self.hangs) = (self.failures + 1, self.hangs + 1);
                self.trouble = Some(what.clone());
            }
            Event::Uninterruptible { what, .. } => {
                self.failures += 1;
                self.trouble = Some(what.clone());
            }
            Event::StopSent { signal } => {
                self.phase = Phase::Stopping;
                self.trouble.get_or_insert_with(|| format!("the ranks are being stopped by {signal}"));
            }
            Event::KillSent {} => {
                self.phase = Phase::Stopping;
                self.trouble.get_or_insert_with(|| "the ranks are being killed".into());
            }
            Event::TreeEmpty { outcome: "succeeded" } => self.phase = Phase::Over,
            Event::TreeEmpty { .. } => self.phase = Phase::Restarting,
            Event::Restart { .. } => self.restarts += 1,
            Event::Backoff { seconds } => self.backoff_seconds += seconds,
            Event::End { .. } => self.phase = Phase::Over,
        }
    }

    pub(super) fn silences(&mut self, silences: Vec<(u32, Duration)>) {
        self.silences = silences.into_iter().collect();
    }

    pub(super) fn lines_lost(&mut self, lines: u64) {
        self.lines_lost += lines;
    }

    pub(super) fn exposition(&self, running: usize, events_lost: u64, now: Instant) -> String {
        let mut out = Exposition(String::new());
        let (began, since) = self.began;
        let began = began.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        out.family("info", "gauge", "What runs.");
        let version = env!("CARGO_PKG_VERSION");
        out.sample("info", &[("run_id", &self.run_id), ("version", version)], 1);
        out.gauge("start_time_seconds", "When the launcher began, in seconds since 1970.", began.as_secs_f64());
        let uptime = now.saturating_duration_since(since).as_secs_f64();
        out.gauge("uptime_seconds", "Since the launcher began.", uptime);
        out.gauge("local_ranks", "Ranks that this node is to run.", self.local_ranks);
        out.gauge("running_ranks", "Ranks of this node that have started and not ended.", running);
        out.family("phase", "gauge", "1 for the phase that the run is in.");
        for (phase, name) in PHASES {
            out.sample("phase", &[("phase", name)], u8::from(phase == self.phase));
        }
        out.counter("attempts_total", "Times that the ranks were started.", self.attempts);
        out.counter("restarts_total", "Times that they were started anew after a failure.", self.restarts);
        out.counter("failures_total", "Failures that ended an attempt, hangs among them.", self.failures);
        out.counter("hangs_total", "Times that ranks without progress were taken for failed.", self.hangs);
        out.counter("backoff_seconds_total", "Time waited before restarts.", self.backoff_seconds);
        if let Some(time) = self.start_time {
            out.gauge(
                "ranks_start_seconds",
                "What it took to start all ranks of the last attempt.",
                time.as_secs_f64(),
            );
        }
        if !self.silences.is_empty() {
            out.family("rank_silence_seconds", "gauge", "Since the last progress of a rank (--hang-timeout).");
            for (rank, silence) in &self.silences {
                out.sample("rank_silence_seconds", &[("rank", &rank.to_string())], silence.as_secs_f64());
            }
        }
        out.counter("console_lost_lines_total", "Lines that the console was too slow for.", self.lines_lost);
        out.counter("events_lost_lines_total", "Lines that the events file did not take.", events_lost);
        out.0
    }

    pub(super) fn health(&self, attempt: u32, running: usize) -> (bool, String) {
        let phase = PHASES.iter().find(|(phase, _)| *phase == self.phase).map_or("", |(_, name)| name);
        let is_well = self.trouble.is_none();
        let status = if is_well { "ok" } else { "unavailable" };
        let health = Health {
            status,
            phase,
            reason: self.trouble.as_deref(),
            attempt,
            local_ranks: self.local_ranks,
            running_ranks: running,
        };
        (is_well, serde_json::to_string(&health).unwrap_or_default())
    }
}

#[derive(Serialize)]
struct Health<'a> {
    status: &'a str,
    phase: &'a str,
    reason: Option<&'a str>,
    attempt: u32,
    local_ranks: u32,
    running_ranks: usize,
}

struct Exposition(String);

impl Exposition {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string cannot fail.
        let _ = write!(self.0, "# HELP zenith_run_{name} {help}\n# TYPE zenith_run_{name} {kind}\n");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.0, "zenith_run_{name}{labels} {value}");
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "gauge", help);
        self.sample(name, &[], value);
    }

    fn counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "counter", help);
        self.sample(name, &[], value);
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started(rank: u32) -> Event {
        Event::RankStarted { rank, local_rank: rank, pid: 1 }
    }

    fn value(metrics: &Metrics, line: &str) -> Option<String> {
        let text = metrics.exposition(0, 0, Instant::now());
        text.lines().find_map(|known| known.strip_prefix(line)?.strip_prefix(' ').map(Into::into))
    }

    #[test]
    fn events_are_counted() {
        let (mut metrics, now) = (Metrics::new("a\"b\n", 2), Instant::now());
        for event in [
            Event::Spawn { ranks: 2 },
            started(0),
            started(1),
            Event::FailureSeen { what: "x".into() },
            Event::StopSent { signal: "SIGTERM".into() },
            Event::TreeEmpty { outcome: "failed" },
            Event::Restart { restart: 1, of: 3 },
            Event::Backoff { seconds: 2.5 },
            Event::Spawn { ranks: 2 },
            Event::Hang { ranks: vec![0], what: "y".into(), stacks: Vec::new() },
        ] {
            metrics.note(&event, now);
        }
        for (name, expected) in [
            ("zenith_run_attempts_total", "2"),
            ("zenith_run_restarts_total", "1"),
            ("zenith_run_failures_total", "2"),
            ("zenith_run_hangs_total", "1"),
            ("zenith_run_backoff_seconds_total", "2.5"),
            ("zenith_run_phase{phase=\"spawning\"}", "1"),
            ("zenith_run_phase{phase=\"running\"}", "0"),
            ("zenith_run_local_ranks", "2"),
            ("zenith_run_info{run_id=\"a\\\"b\\n\",version=\"0.0.0\"}", "1"),
        ] {
            assert_eq!(value(&metrics, name).as_deref(), Some(expected), "{name}");
        }
    }

    #[test]
    fn a_run_is_well_until_a_failure_and_again_when_all_ranks_run() {
        let (mut metrics, now) = (Metrics::new("r", 2), Instant::now());
        let mut after = |event: Event| {
            metrics.note(&event, now);
            metrics.health(0, 0)
        };
        assert!(after(Event::Spawn { ranks: 2 }).0);
        assert!(after(started(0)).0);
        let (is_well, text) = after(Event::FailureSeen { what: "rank 0 \"failed\"".into() });
        assert!(!is_well);
        assert!(text.contains(r#""reason":"rank 0 \"failed\"""#), "{text}");
        assert!(!after(Event::StopSent { signal: "SIGTERM".into() }).0);
        assert!(!after(Event::Spawn { ranks: 2 }).0);
        assert!(!after(started(0)).0);
        let (is_well, text) = after(started(1));
        assert!(is_well && text.contains(r#""phase":"running","reason":null"#), "{text}");
    }
}
