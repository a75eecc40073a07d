//! The name of this machine in reports.

use std::path::Path;

/// The full name that /etc/hosts has for this machine, else its short one. No name server is asked: it may not answer.
pub fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let hosts = std::fs::read_to_string(Path::new("/etc/hosts")).unwrap_or_default();
    full_name(&name, &hosts)
}

/// Of the names that share an address with `name`, the first with a dot in it, else the first.
fn full_name(name: &str, hosts: &str) -> String {
    let lines = hosts.lines().map(|line| line.split('#').next().unwrap_or_default().split_whitespace());
    let rows: Vec<Vec<&str>> = lines.map(Iterator::collect).collect();
    let names_of = |row: &Vec<&str>| row.get(1..).unwrap_or_default().to_vec();
    let Some(address) = rows.iter().find(|row| names_of(row).contains(&name)).map(|row| row[0]) else { return name.into() };
    let Some(names) = rows.iter().find(|row| row.first() == Some(&address)).map(names_of) else { return name.into() };
    names.iter().find(|name| name.contains('.')).or(names.first()).map_or_else(|| name.into(), |name| (*name).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_full_name_is_that_of_the_address() {
        let hosts = "# comment\n127.0.0.1 localhost\n10.0.0.7 node7 node7.cluster # here\n10.0.0.8 n8\n10.0.0.7 n8\n";
        for (name, full) in [("node7", "node7.cluster"), ("n8", "n8"), ("other", "other"), ("localhost", "localhost")] {
            assert_eq!(full_name(name, hosts), full);
        }
        assert_eq!(full_name("a", ""), "a");
    }
}
