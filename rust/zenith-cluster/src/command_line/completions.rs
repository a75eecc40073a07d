//! Completions for shells, made from the flags. What the script is comes from the shell's own completion of files.

use std::fmt::Write;

use super::flags::{FLAGS, Flag};

/// A shell that completions can be written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl Shell {
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "bash" => Some(Self::Bash),
            "zsh" => Some(Self::Zsh),
            "fish" => Some(Self::Fish),
            _ => None,
        }
    }

    pub(super) fn script(self) -> String {
        match self {
            Self::Bash => bash(),
            Self::Zsh => zsh(),
            Self::Fish => fish(),
        }
    }
}

fn bash() -> String {
    let names: Vec<String> =
        FLAGS.iter().flat_map(|flag| flag.short.into_iter().chain([flag.long])).map(String::from).collect();
    let mut cases = String::new();
    for flag in FLAGS.iter().filter(|flag| !flag.choices.is_empty()) {
        let names = flag.names().collect::<Vec<_>>().join("|");
        let _ = writeln!(
            cases,
            "        {names}) COMPREPLY=($(compgen -W '{}' -- \"$word\")); return ;;",
            flag.choices.join(" ")
        );
    }
    format!(
        "_zenith_run() {{\n    local word=${{COMP_WORDS[COMP_CWORD]}}\n    COMPREPLY=()\n    case ${{COMP_WORDS[COMP_CWORD-1]}} in\n{cases}    esac\n    \
         if [[ $word == -* ]]; then COMPREPLY=($(compgen -W '{}' -- \"$word\")); fi\n}}\n\
         complete -o default -F _zenith_run zenith-run\n",
        names.join(" ")
    )
}

fn zsh() -> String {
    let mut text = String::from("#compdef zenith-run\n_arguments -S \\\n");
    for flag in FLAGS {
        let help: String = flag.help.chars().filter(|character| !"[]'`:".contains(*character)).collect();
        for name in flag.short.into_iter().chain([flag.long]) {
            let _ = writeln!(text, "  '{name}[{help}]{}' \\", zsh_value(flag));
        }
    }
    text + "  '1:script:_files' \\\n  '*::argument:_files'\n"
}

fn zsh_value(flag: &Flag) -> String {
    match (flag.takes_value(), flag.choices) {
        (false, _) => String::new(),
        (true, []) => format!(":{}:_files", flag.placeholder.replace(':', "-")),
        (true, choices) => format!(":{}:({})", flag.placeholder, choices.join(" ")),
    }
}

fn fish() -> String {
    let mut text = String::new();
    for flag in FLAGS {
        let short = flag.short.map(|short| format!(" -s {}", &short[1..])).unwrap_or_default();
        let value = match (flag.takes_value(), flag.choices) {
            (false, _) => String::new(),
            (true, []) => " -r".into(),
            (true, choices) => format!(" -x -a '{}'", choices.join(" ")),
        };
        let help = flag.help.replace('\'', "\\'");
        let _ = writeln!(text, "complete -c zenith-run{short} -l {}{value} -d '{help}'", &flag.long[2..]);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn every_shell_knows_every_flag() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = shell.script();
            for flag in FLAGS {
                assert!(script.contains(&flag.long[2..]), "{shell:?} lacks {}", flag.long);
            }
        }
    }

    #[test]
    fn bash_completes_flags_and_choices() {
        for (line, expected) in
            [("zenith-run --stand", "--standalone"), ("zenith-run --start_method forks", "forkserver")]
        {
            let words: Vec<_> = line.split(' ').collect();
            let program = format!(
                "{}\nCOMP_WORDS=({line}); COMP_CWORD={}; _zenith_run; echo \"${{COMPREPLY[*]}}\"",
                Shell::Bash.script(),
                words.len() - 1
            );
            let output = Command::new("bash").args(["-c", &program]).output().expect("bash");
            assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), expected, "{line}");
        }
    }
}
