//! The failure of ranks that did not fail by themselves: they hung, or the kernel did not let go of them.

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use jiff::Timestamp;
use serde_json::json;

use super::Failure;
use crate::worker::{Exit, Status};

/// What the rank itself wrote when it was stopped, which is an effect and not the cause.
const AT_STOP: &str = "error_at_stop.json";

/// Writes the failure where torch's `@record` would, so that whoever reads error files hears of it.
pub fn record(path: &Path, what: &str, at: SystemTime) -> io::Result<()> {
    let seconds = Timestamp::try_from(at).map_or(0, Timestamp::as_second);
    let extra = json!({ "py_callstack": what, "timestamp": seconds.to_string() });
    let record = json!({ "message": { "message": what, "extraInfo": extra } });
    match std::fs::rename(path, path.with_file_name(AT_STOP)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    std::fs::write(path, record.to_string())
}

/// Makes the rank of `exit` the root cause. Where its end was seen, that end stands; it may have been a success.
pub fn put_first(failures: &mut Vec<Failure>, ends: &[Exit], exit: Exit, error_file: Option<PathBuf>, what: &str) {
    let seen = ends.iter().find(|end| end.local_rank == exit.local_rank).copied().unwrap_or(exit);
    failures.retain(|failure| failure.exit.local_rank != exit.local_rank);
    let time = Timestamp::try_from(exit.at).unwrap_or(Timestamp::UNIX_EPOCH);
    failures.insert(0, Failure { exit: seen, error_file, message: what.into(), time });
}

/// A rank whose end is not known: SIGKILL is what it was sent last.
pub fn unseen(local_rank: u32, rank: u32, pid: i32, at: SystemTime) -> Exit {
    Exit { local_rank, rank, pid, status: Status::Signal(libc::SIGKILL), at }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::failures;

    #[test]
    fn a_rank_that_hung_is_the_root_cause_however_it_ended() {
        let at = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000);
        let end = |rank, status| Exit { local_rank: rank, rank, pid: 7, status, at };
        for status in [Status::Signal(15), Status::Code(0)] {
            let ends = [end(0, Status::Signal(15)), end(1, status)];
            let mut found = failures(&ends, |_| None);
            put_first(&mut found, &ends, unseen(1, 1, 7, at), None, "hang");
            let told: Vec<_> = found.iter().map(|failure| (failure.exit.rank, failure.exit.status)).collect();
            assert_eq!(told, [(1, status), (0, Status::Signal(15))]);
            assert_eq!(found[0].message, "hang");
        }
        let mut none = Vec::new();
        put_first(&mut none, &[], unseen(1, 1, 7, at), None, "hang");
        assert_eq!(none[0].exit_code(), -9);
    }

    #[test]
    fn the_record_is_as_torch_writes_them_and_keeps_the_ranks_own() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("error.json");
        let at = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(17);
        record(&path, "hang: \"x\"", at).expect("a file");
        let text =
            r#"{"message":{"message":"hang: \"x\"","extraInfo":{"py_callstack":"hang: \"x\"","timestamp":"17"}}}"#;
        assert_eq!(std::fs::read_to_string(&path).expect("a file"), text);
        std::fs::write(&path, "own").expect("a file");
        record(&path, "hang", at).expect("a file");
        assert_eq!(std::fs::read_to_string(folder.path().join(AT_STOP)).expect("a file"), "own");
    }
}
