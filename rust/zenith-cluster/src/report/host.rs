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
    // Address and names.
    let rows: Vec<(&str, Vec<&str>)> = lines.filter_map(|mut words| Some((words.next()?, words.collect()))).collect();
    let own = rows.iter().find(|(_, names)| names.contains(&name));
    let row = own.and_then(|(address, _)| rows.iter().find(|(known, _)| known == address));
    let full = row.and_then(|(_, names)| names.iter().find(|name| name.contains('.')).or(names.first()));
    full.map_or(name, |full| full).into()
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
