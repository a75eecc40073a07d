//! `--warm` where this launcher does not start the ranks.

use std::ffi::OsString;
use std::time::Duration;

/// The import of torch takes seconds, and minutes from a cold disk of the network.
pub(super) const IMPORT_LIMIT: Duration = Duration::from_secs(300);

/// The command line as Python's torchrun knows it: without the flags of warm starts, which it has not. `own` arguments stand before
/// the script. Says whether there were any.
pub(super) fn left_out(arguments: &[OsString], own: usize) -> (Vec<OsString>, bool) {
    let (own, script) = arguments.split_at(own.min(arguments.len()));
    let mut left = Vec::with_capacity(arguments.len());
    let mut flags = own.iter();
    while let Some(argument) = flags.next() {
        match argument.to_str() {
            Some("--warm") => {}
            Some("--warm-modules") => drop(flags.next()),
            Some(text) if text.starts_with("--warm-modules=") => {}
            _ => left.push(argument.clone()),
        }
    }
    let had_some = left.len() < own.len();
    left.extend_from_slice(script);
    (left, had_some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scripts_own_arguments_stay() {
        let arguments: Vec<OsString> =
            ["--warm", "--run-path", "--warm-modules", "a", "--warm-modules=b", "s.py", "--warm"]
                .map(Into::into)
                .into();
        let (left, had_some) = left_out(&arguments, 5);
        assert!(had_some);
        assert_eq!(left, ["--run-path", "s.py", "--warm"]);
        assert_eq!(left_out(&left, 1), (left.clone(), false));
    }
}
