//! What is told of a run: a line of JSON for each event, in a form that carries its version.
//!
//! docs/zenith-run.md lists the events and their fields; `tests/cluster/test_seeing.py` compares the two. A field that goes,
//! or means something else, makes a new version; one that comes does not.

use std::time::SystemTime;

use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

const VERSION: u32 = 1;

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Event {
    Start {
        pid: u32,
        launcher_version: &'static str,
        local_ranks: u32,
        max_restarts: u32,
        log_folder: Option<String>,
        metrics_port: Option<u16>,
    },
    /// This node asks to take part.
    RendezvousJoined {
        host: String,
        port: u16,
    },
    /// Who takes part in the attempt that begins.
    RendezvousDecided {
        generation: u64,
        group_rank: u32,
        nodes: u32,
        ranks: u32,
        master_addr: String,
        master_port: u16,
    },
    Spawn {
        ranks: u32,
    },
    RankStarted {
        rank: u32,
        local_rank: u32,
        pid: i32,
    },
    /// By itself with an exit code, or by a signal.
    RankEnded {
        rank: u32,
        local_rank: u32,
        pid: i32,
        exit_code: Option<i32>,
        signal: Option<String>,
    },
    FailureSeen {
        what: String,
    },
    Hang {
        ranks: Vec<u32>,
        what: String,
        stacks: Vec<String>,
    },
    /// A rank is stuck in the kernel.
    Uninterruptible {
        ranks: Vec<u32>,
        what: String,
        stacks: Vec<String>,
    },
    StopSent {
        signal: String,
    },
    KillSent {},
    /// All ranks have succeeded, but some of their descendants run.
    Outlived {
        processes: usize,
    },
    /// Shared memory that stopped ranks had left.
    Removed {
        files: u32,
        segments: u32,
        bytes: u64,
    },
    /// Ranks can be forked from this process.
    Warm {
        pid: i32,
    },
    /// Ranks are started without it.
    Cold {
        reason: String,
    },
    TreeEmpty {
        outcome: &'static str,
    },
    Restart {
        restart: u32,
        of: u32,
    },
    Backoff {
        seconds: f64,
    },
    End {
        exit_code: u8,
        error: Option<String>,
    },
}

/// An event with what all of them have.
#[derive(Debug, Serialize)]
pub(super) struct Line<'a> {
    version: u32,
    /// Since 1970.
    time_s: f64,
    /// Of CLOCK_MONOTONIC, which all processes of a machine share.
    monotonic_s: f64,
    run_id: &'a str,
    node: &'a str,
    attempt: u32,
    #[serde(flatten)]
    event: &'a Event,
}

impl<'a> Line<'a> {
    pub(super) fn now(run_id: &'a str, node: &'a str, attempt: u32, event: &'a Event) -> Self {
        let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let monotonic = clock_gettime(ClockId::Monotonic);
        let monotonic_s = monotonic.tv_sec as f64 + monotonic.tv_nsec as f64 / 1e9;
        Self { version: VERSION, time_s: time.as_secs_f64(), monotonic_s, run_id, node, attempt, event }
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        // Of these types nothing can fail to be written.
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.push(b'\n');
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_with_its_name_and_fields() {
        let event =
            Event::RankEnded { rank: 3, local_rank: 1, pid: 77, exit_code: None, signal: Some("SIGKILL".into()) };
        let line = Line { time_s: 1.5, monotonic_s: 0.25, ..Line::now("a\nb", "n", 2, &event) };
        let text = String::from_utf8(line.to_bytes()).expect("text");
        let expected = r#"{"version":1,"time_s":1.5,"monotonic_s":0.25,"run_id":"a\nb","node":"n","attempt":2,"event":"rank_ended","rank":3,"local_rank":1,"pid":77,"exit_code":null,"signal":"SIGKILL"}"#;
        assert_eq!(text, format!("{expected}\n"));
    }
}
