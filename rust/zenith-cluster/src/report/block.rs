//! The block that ends a failed run, byte for byte torchrun's (TB-1 to TB-9).

use jiff::tz::TimeZone;

use super::Failure;
use crate::signals;
use crate::worker::Status;

const WIDTH_MAX: usize = 60;

/// Starts with a line break, ends without. Without failures it is empty.
pub fn block(entry: &str, failures: &[Failure], host: &str, zone: &TimeZone) -> String {
    let title = format!("{entry} FAILED");
    let entries: Vec<String> =
        failures.iter().enumerate().map(|(index, failure)| described(index, failure, host, zone)).collect();
    let Some((root, others)) = entries.split_first() else { return String::new() };
    let lines = entries.iter().flat_map(|entry| entry.split('\n')).chain([title.as_str()]);
    let width = lines.map(|line| line.chars().count()).max().unwrap_or(0).min(WIDTH_MAX);
    let (border, section) = ("=".repeat(width), "-".repeat(width));
    let others = if others.is_empty() { "  <NO_OTHER_FAILURES>".into() } else { others.join("\n") };
    format!(
        "\n{border}\n{title}\n{section}\nFailures:\n{others}\n{section}\nRoot Cause (first observed failure):\n{root}\n{border}"
    )
}

fn described(index: usize, failure: &Failure, host: &str, zone: &TimeZone) -> String {
    let exit = failure.exit;
    let signal = match exit.status {
        Status::Signal(signal) => signals::name(signal).map(|name| format!(" ({name})")).unwrap_or_default(),
        Status::Code(_) => String::new(),
    };
    let file = failure.error_file.as_ref().map_or_else(|| "<N/A>".into(), |path| path.to_string_lossy());
    format!(
        "[{index}]:\n  time      : {}\n  host      : {host}\n  rank      : {} (local_rank: {})\n  \
         exitcode  : {} (pid: {}) {signal}\n  error_file: {file}\n  traceback : {}",
        failure.time.to_zoned(zone.clone()).strftime("%Y-%m-%d_%H:%M:%S"),
        exit.rank,
        exit.local_rank,
        failure.exit_code(),
        exit.pid,
        failure.message,
    )
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::report::{failures, ties};
    use crate::worker::Exit;

    fn exit(rank: u32, status: Status, milliseconds: u64) -> Exit {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000) + Duration::from_millis(milliseconds);
        Exit { local_rank: rank, rank, pid: 100 + rank as i32, status, at }
    }

    fn of(exits: &[Exit]) -> String {
        block("train.py", &failures(exits, |_| None), "node7", &TimeZone::UTC)
    }

    #[test]
    fn the_root_cause_stands_last_and_is_the_first_that_ended() {
        let exits = [exit(2, Status::Code(0), 0), exit(1, Status::Code(3), 10), exit(0, Status::Signal(15), 20)];
        let expected = "
============================================================
train.py FAILED
------------------------------------------------------------
Failures:
[1]:
  time      : 2023-11-14_22:13:20
  host      : node7
  rank      : 0 (local_rank: 0)
  exitcode  : -15 (pid: 100)  (SIGTERM)
  error_file: <N/A>
  traceback : Signal 15 (SIGTERM) received by PID 100
------------------------------------------------------------
Root Cause (first observed failure):
[0]:
  time      : 2023-11-14_22:13:20
  host      : node7
  rank      : 1 (local_rank: 1)
  exitcode  : 3 (pid: 101) \n  error_file: <N/A>
  traceback : To enable traceback see: https://pytorch.org/docs/stable/elastic/errors.html
============================================================";
        assert_eq!(of(&exits), expected);
    }

    #[test]
    fn rules_are_as_wide_as_the_longest_line_up_to_sixty() {
        let only = of(&[exit(0, Status::Signal(9), 0)]);
        assert!(only.contains("Failures:\n  <NO_OTHER_FAILURES>\n-"));
        assert_eq!(
            only.lines().nth(1).map(str::len),
            Some("  traceback : Signal 9 (SIGKILL) received by PID 100".len())
        );
        assert_eq!(of(&[]), "");
        assert!(of(&[exit(0, Status::Signal(64), 0)]).contains("exitcode  : -64 (pid: 100) \n"), "it has no name");
    }

    #[test]
    fn files_of_ranks_give_message_and_time() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("error.json");
        std::fs::write(&path, r#"{"message":"no memory","timestamp":1700000001}"#).expect("a file");
        let exits = [exit(0, Status::Code(1), 0)];
        let text = block("x", &failures(&exits, |_| Some(path.clone())), "h", &TimeZone::UTC);
        assert!(text.contains("  time      : 2023-11-14_22:13:21\n"), "{text}");
        assert!(text.contains(&format!("  error_file: {}\n  traceback : no memory\n", path.display())), "{text}");
        std::fs::write(&path, "{").expect("a file");
        let text = block("x", &failures(&exits, |_| Some(path.clone())), "h", &TimeZone::UTC);
        assert!(text.contains("traceback : The error file cannot be used: "), "{text}");
    }

    #[test]
    fn failures_at_the_same_time_are_ties_unless_the_launcher_made_them() {
        let exits = [
            exit(1, Status::Code(7), 0),
            exit(0, Status::Code(9), 1),
            exit(2, Status::Signal(15), 1),
            exit(3, Status::Code(1), 50),
        ];
        assert_eq!(ties(&failures(&exits, |_| None)), [0]);
        assert!(ties(&[]).is_empty());
    }
}
