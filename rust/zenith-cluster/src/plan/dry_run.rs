//! An outline of the plan as text.

use std::fmt::Write;

use super::outline::{Machine, Outline, Rank, ShownGpu, ShownNodes};

const COLUMNS: [&str; 7] = ["rank", "CPUs", "cores", "threads", "memory", "GPU", "why"];

pub fn table(outline: &Outline) -> String {
    let Outline { run_id, ranks, max_restarts, shutdown_timeout_s, store, .. } = outline;
    let owner = if store.served_by == "launcher" { "the launcher" } else { store.served_by };
    let mut text = format!(
        "run {run_id}: ranks: {ranks}, restarts at most: {max_restarts}, from SIGTERM to SIGKILL: {shutdown_timeout_s} s\n\
         store: served by {owner}, {}\n{}\
         interpreter: {}\n\
         machine: {}\n\n",
        store.port.map_or_else(
            || format!("{} at a free port (shown as 0)", store.host),
            |port| format!("{}:{port}", store.host)
        ),
        outline.nodes.as_ref().map(nodes).unwrap_or_default(),
        outline.interpreter.as_deref().unwrap_or("none, the script is a program"),
        machine(&outline.machine),
    );
    let rows = outline.workers.iter().map(row);
    text += &aligned(&[COLUMNS.map(String::from)].into_iter().chain(rows).collect::<Vec<_>>());
    for rank in &outline.workers {
        let _ = writeln!(text, "\nrank {} (local rank {})", rank.rank, rank.local_rank);
        let command: Vec<_> = rank.command.iter().map(|word| quoted(word)).collect();
        let _ = writeln!(text, "  {}\n  stdout to {}\n  stderr to {}", command.join(" "), rank.stdout, rank.stderr);
        for (name, value) in &rank.environment {
            let _ = writeln!(text, "  {name}={}", quoted(value.as_str().unwrap_or_default()));
        }
    }
    text
}

fn nodes(ShownNodes { least, most, host, port }: &ShownNodes) -> String {
    format!("nodes: {least} to {most}, which meet at {host} port {port}\n")
}

fn machine(machine: &Machine) -> String {
    let Machine { sockets, memory_nodes, cores, cpus, allowed_cpus, gpus, gpus_from } = machine;
    let of = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let allowed = if cpus == allowed_cpus { String::new() } else { format!(", of which {allowed_cpus} may be used") };
    let from = gpus_from.map(|from| format!(" (from {from})")).unwrap_or_default();
    format!(
        "{}, {}, {}, CPUs {cpus}{allowed}; {}{from}",
        of(*sockets, "socket"),
        of(*memory_nodes, "memory node"),
        of(*cores, "core"),
        of(gpus.len(), "GPU"),
    )
}

fn row(rank: &Rank) -> [String; 7] {
    let gpu = |gpu: &ShownGpu| [Some(gpu.address.clone()), gpu.model.clone()].into_iter().flatten().collect::<Vec<_>>();
    [
        rank.rank.to_string(),
        if rank.is_bound { rank.cpus.clone() } else { format!("any of {}", rank.cpus) },
        rank.cores.to_string(),
        rank.threads.clone().unwrap_or_else(|| "-".into()),
        rank.memory_node.map_or_else(|| "any".into(), |node| format!("node {node}")),
        rank.gpu.as_ref().map_or_else(|| "-".into(), |shown| gpu(shown).join(" ")),
        rank.reason.clone(),
    ]
}

/// Columns as wide as their widest cell; the last one ends the line.
fn aligned<const WIDTH: usize>(rows: &[[String; WIDTH]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; WIDTH] = std::array::from_fn(width);
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            let _ = write!(line, "{cell:width$}  ");
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// For a shell.
fn quoted(text: &str) -> String {
    let is_plain = |character: char| character.is_ascii_alphanumeric() || "-_./=:,+@%".contains(character);
    if !text.is_empty() && text.chars().all(is_plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}
