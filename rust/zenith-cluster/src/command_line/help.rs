//! `--help` and `--version`, made from the flags.

use std::fmt::Write;

use super::flags::{FLAGS, Flag, Group, Kind};
use super::options::Options;

pub(super) const USAGE: &str =
    "usage: zenith-run [FLAGS] SCRIPT [ARGUMENTS OF THE SCRIPT]...    (zenith-run --help lists the flags)";
const WIDTH: usize = 100;
const INDENT: usize = 8;

pub(super) fn version() -> String {
    format!("zenith-run {} (command line of torchrun 2.13)\n", env!("CARGO_PKG_VERSION"))
}

pub(super) fn help() -> String {
    let mut text = String::from(
        "Starts the ranks of a training program and watches over them, as torchrun does.\n\n\
         usage: zenith-run [FLAGS] SCRIPT [ARGUMENTS OF THE SCRIPT]...\n\n\
         What stands behind SCRIPT belongs to it. Flags of torchrun may be written with underscores and abbreviated;\n\
         the command line wins over the environment.\n",
    );
    for (group, title) in Group::ALL {
        let _ = write!(text, "\n{title}\n");
        for flag in FLAGS.iter().filter(|flag| flag.group == group) {
            let _ = write!(text, "  {}\n{}", heading(flag), wrapped(&explanation(flag)));
        }
    }
    text.push_str("\nExit status: 0 all ranks succeeded; 1 a rank failed, or a signal stopped the run; 2 the command line is wrong.\n");
    text
}

fn heading(flag: &Flag) -> String {
    let short = flag.short.map(|short| format!("{short}, ")).unwrap_or_default();
    let value = if flag.choices.is_empty() { flag.placeholder.into() } else { flag.choices.join("|") };
    format!("{short}{} {value}", flag.long).trim_end().into()
}

fn explanation(flag: &Flag) -> String {
    let mut notes: Vec<String> = default(flag).map(|value| format!("default: {value}")).into_iter().collect();
    notes.extend(flag.variable().map(|name| format!("${name}")));
    if notes.is_empty() { flag.help.into() } else { format!("{} [{}]", flag.help, notes.join("; ")) }
}

fn default(flag: &Flag) -> Option<String> {
    let mut options = Options::default();
    match flag.kind {
        Kind::Text(place) => Some(place(&mut options).clone()).filter(|text| !text.is_empty()),
        Kind::Whole(place) => Some(place(&mut options).to_string()),
        Kind::Real(place) => Some(place(&mut options).to_string()),
        Kind::Store => Some("launcher".into()),
        _ => None,
    }
}

fn wrapped(text: &str) -> String {
    let mut lines = String::new();
    let mut column = 0;
    for word in text.split(' ') {
        if column > 0 && column + 1 + word.len() > WIDTH {
            lines.push('\n');
            column = 0;
        }
        if column == 0 {
            lines.extend(std::iter::repeat_n(' ', INDENT));
            column = INDENT;
        } else {
            lines.push(' ');
            column += 1;
        }
        lines.push_str(word);
        column += word.len();
    }
    lines + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flag_is_explained_once_with_default_and_variable() {
        let help = help();
        for flag in FLAGS {
            assert_eq!(help.matches(&format!("{}\n", heading(flag))).count(), 1, "{}", flag.long);
        }
        for part in [
            "[default: 0; $PET_MAX_RESTARTS]",
            "-r, --redirects STREAMS\n",
            "--store launcher|rank0\n",
            "[$PET_STANDALONE]",
        ] {
            assert!(help.split_whitespace().collect::<Vec<_>>().join(" ").contains(part.trim_end()), "{part}");
        }
        assert!(help.lines().all(|line| line.len() <= WIDTH + INDENT + 10), "lines fit a terminal");
    }
}
