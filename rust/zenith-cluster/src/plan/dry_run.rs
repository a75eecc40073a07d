//! The plan as text, for `--dry-run`.

use std::ffi::{OsStr, OsString};
use std::fmt::Write;

use super::{Meeting, Settings};
use crate::command_line::StoreOwner;
use crate::worker::{Output, Worker};

/// `workers` as they would be started; `inherited` is left out of their environments.
pub fn dry_run(settings: &Settings, workers: &[Worker], inherited: &[(OsString, OsString)]) -> String {
    let place = match &settings.meeting {
        _ if settings.nodes.is_some() => nodes(settings),
        Meeting::FreePort => "127.0.0.1 at a free port (shown as 0)".into(),
        Meeting::At { host, port } => format!("{host}:{port}"),
    };
    let owner = if settings.store == StoreOwner::Launcher { "the launcher" } else { "rank 0" };
    let grace = settings.rules.grace.as_secs();
    let mut text = format!(
        "run {}: ranks: {}, restarts at most: {}, from SIGTERM to SIGKILL: {grace} s\nstore: served by {owner}, {place}\n",
        settings.run_id, settings.ranks, settings.max_restarts,
    );
    for worker in workers {
        let command =
            std::iter::once(&worker.program).chain(&worker.arguments).map(|word| quoted(word)).collect::<Vec<_>>();
        let _ = writeln!(text, "\nrank {} (local rank {})", worker.rank, worker.local_rank);
        let _ = writeln!(text, "  {}", command.join(" "));
        for (name, output) in [("stdout", &worker.stdout), ("stderr", &worker.stderr)] {
            let _ = writeln!(text, "  {name} to {}", target(output));
        }
        for (name, value) in worker.environment.iter().filter(|variable| !inherited.contains(variable)) {
            let _ = writeln!(text, "  {}={}", name.display(), quoted(value));
        }
    }
    text
}

fn nodes(settings: &Settings) -> String {
    let Some(nodes) = &settings.nodes else { return String::new() };
    let (terms, host, port) = (&nodes.terms, &nodes.host, nodes.port);
    let at = if terms.is_static { "that port" } else { "the first node, at a free port (shown as 0)" };
    format!("{at}\nnodes: {} to {}, which meet at {host} port {port}", terms.least, terms.most)
}

fn target(output: &Output) -> String {
    match output {
        Output::Inherited => "the console".into(),
        Output::Discarded => "/dev/null".into(),
        Output::File(path) => path.display().to_string(),
    }
}

/// For a shell.
fn quoted(word: &OsStr) -> String {
    let text = word.to_string_lossy();
    let is_plain = |character: char| character.is_ascii_alphanumeric() || "-_./=:,+@%".contains(character);
    if !text.is_empty() && text.chars().all(is_plain) {
        text.into_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}
