//! argparse's rules, as far as torchrun's flags make use of them.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::completions::Shell;
use super::error::UsageError;
use super::flags::{FLAGS, Flag, Kind};
use super::numbers::whole;
use super::options::Options;

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Parsed {
    Run(Box<Options>),
    /// Print this and be done.
    Print(String),
    /// Make a `torchrun` in this folder and be done.
    InstallAlias(PathBuf),
}

/// `arguments` without the program's own name; `variable` looks into the environment.
pub fn parse(arguments: &[OsString], variable: impl Fn(&str) -> Option<OsString>) -> Result<Parsed, UsageError> {
    let mut parser = Parser::new(&variable)?;
    if let Some(parsed) = parser.walk(arguments)? {
        return Ok(parsed);
    }
    parser.finish(&variable).map(|options| Parsed::Run(Box::new(options)))
}

/// A command line that was parsed, without the flags that torchrun does not have.
pub fn without_ours(arguments: &[OsString]) -> Vec<OsString> {
    let mut kept = Vec::new();
    let mut rest = arguments;
    while let Some(argument) = rest.first().filter(|argument| *argument != "--") {
        let Ok(Argument::Flag { index, explicit }) = classify(argument) else { break };
        let flag = &FLAGS[index];
        let words = 1 + usize::from(flag.takes_value() && explicit.is_none());
        let (taken, behind) = rest.split_at(words.min(rest.len()));
        if flag.is_torchruns {
            kept.extend_from_slice(taken);
        }
        rest = behind;
    }
    kept.extend_from_slice(rest);
    kept
}

struct Parser {
    options: Options,
    /// By flag: whether the command line has it, so that the environment is not asked.
    given: Vec<bool>,
    unknown: Vec<String>,
    has_script: bool,
}

/// What an argument in front of the script is.
enum Argument<'a> {
    Value,
    Flag { index: usize, explicit: Option<&'a OsStr> },
    Unknown,
}

impl Parser {
    /// Switches are read from the environment first, whatever else is said (T-2).
    fn new(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, UsageError> {
        let mut options = Options::default();
        for flag in FLAGS {
            if let (Kind::On(place), Some(value)) = (&flag.kind, flag.variable().and_then(|name| variable(&name))) {
                let number = whole(&value.to_string_lossy());
                *place(&mut options) =
                    number.map_err(|why| UsageError::Environment(format!("ValueError: {why}")))? != 0;
            }
        }
        Ok(Self { options, given: vec![false; FLAGS.len()], unknown: Vec::new(), has_script: false })
    }

    /// Takes flags up to the script, then leaves the rest to it. `Some`: what is to be done instead.
    fn walk(&mut self, arguments: &[OsString]) -> Result<Option<Parsed>, UsageError> {
        let mut rest = arguments;
        while let Some((argument, behind)) = rest.split_first() {
            rest = behind;
            if argument == "--" {
                if let Some((script, behind)) = rest.split_first() {
                    self.take_script(script, behind);
                }
                break;
            }
            match classify(argument)? {
                Argument::Unknown => self.unknown.push(argument.to_string_lossy().into_owned()),
                Argument::Value => {
                    // The first `--` is dropped behind the script too (T-4).
                    let behind = rest.strip_prefix(&[OsString::from("--")]).unwrap_or(rest);
                    self.take_script(argument, behind);
                    break;
                }
                Argument::Flag { index, explicit } => {
                    if let Some(parsed) = self.take_flag(index, explicit, &mut rest)? {
                        return Ok(Some(parsed));
                    }
                }
            }
        }
        Ok(None)
    }

    fn take_script(&mut self, script: &OsStr, behind: &[OsString]) {
        self.has_script = true;
        self.options.training_script = script.into();
        self.options.training_script_args = behind.to_vec();
    }

    fn take_flag(
        &mut self,
        index: usize,
        explicit: Option<&OsStr>,
        rest: &mut &[OsString],
    ) -> Result<Option<Parsed>, UsageError> {
        let flag = &FLAGS[index];
        let refused = |why: String| UsageError::Grammar(format!("argument {}: {why}", flag.title()));
        self.given[index] = true;
        if !flag.takes_value() {
            if let Some(value) = explicit {
                return Err(refused(format!("ignored explicit argument '{}'", value.to_string_lossy())));
            }
            return Ok(match flag.kind {
                Kind::Help => Some(Parsed::Print(super::help::help())),
                Kind::Version => Some(Parsed::Print(super::help::version())),
                Kind::On(place) => {
                    *place(&mut self.options) = true;
                    None
                }
                _ => None,
            });
        }
        let value = match (explicit, rest.split_first()) {
            (Some(value), _) => value.to_owned(),
            (None, Some((value, behind))) if value != "--" && matches!(classify(value)?, Argument::Value) => {
                *rest = behind;
                value.clone()
            }
            _ => return Err(refused("expected one argument".into())),
        };
        let Some(value) = value.to_str() else {
            return Err(refused(format!("'{}' is not UTF-8", value.to_string_lossy())));
        };
        if !flag.choices.is_empty() && !flag.choices.contains(&value) {
            let choices = flag.choices.iter().map(|choice| format!("'{choice}'")).collect::<Vec<_>>().join(", ");
            return Err(refused(format!("invalid choice: '{value}' (choose from {choices})")));
        }
        flag.set(&mut self.options, value).map_err(refused)?;
        Ok(match flag.kind {
            Kind::Completions => Shell::named(value).map(|shell| Parsed::Print(shell.script())),
            Kind::InstallAlias => Some(Parsed::InstallAlias(value.into())),
            _ => None,
        })
    }

    /// What is not on the command line comes from the environment, unless the command line is wrong in itself.
    fn finish(mut self, variable: impl Fn(&str) -> Option<OsString>) -> Result<Options, UsageError> {
        for (flag, given) in FLAGS.iter().zip(&self.given) {
            let Some(value) = flag.variable().filter(|_| !given && flag.takes_value()).and_then(|name| variable(&name))
            else {
                continue;
            };
            let refused = |why| UsageError::Grammar(format!("argument {}: {why}", flag.title()));
            flag.set(&mut self.options, &value.to_string_lossy()).map_err(refused)?;
        }
        if !self.has_script {
            let what = "the following arguments are required: training_script, training_script_args";
            return Err(UsageError::Grammar(what.into()));
        }
        if !self.unknown.is_empty() {
            return Err(UsageError::Grammar(format!("unrecognized arguments: {}", self.unknown.join(" "))));
        }
        Ok(self.options)
    }
}

fn classify(argument: &OsStr) -> Result<Argument<'_>, UsageError> {
    let bytes = argument.as_bytes();
    if bytes.len() < 2 || bytes[0] != b'-' {
        return Ok(Argument::Value);
    }
    let (name, explicit) = match bytes.iter().position(|&byte| byte == b'=') {
        Some(at) => (&bytes[..at], Some(OsStr::from_bytes(&bytes[at + 1..]))),
        None => (bytes, None),
    };
    let named = |name: &[u8]| FLAGS.iter().position(|flag| flag.names().any(|known| known.as_bytes() == name));
    if let Some(index) = named(name) {
        return Ok(Argument::Flag { index, explicit });
    }
    if bytes[1] != b'-' {
        if let Some(index) = named(&bytes[..2]) {
            return Ok(Argument::Flag { index, explicit: Some(OsStr::from_bytes(&bytes[2..])) });
        }
    } else if let Some(index) = abbreviated(name, argument)? {
        return Ok(Argument::Flag { index, explicit });
    }
    Ok(if is_negative_number(bytes) || bytes.contains(&b' ') { Argument::Value } else { Argument::Unknown })
}

/// The one flag of torchrun whose name begins so. Two spellings of one flag are no ambiguity here (T-3).
fn abbreviated(prefix: &[u8], argument: &OsStr) -> Result<Option<usize>, UsageError> {
    let begins = |name: &String| name.as_bytes().starts_with(prefix);
    let candidates: Vec<(usize, &Flag)> = FLAGS
        .iter()
        .enumerate()
        .filter(|(_, flag)| flag.is_torchruns && flag.names().any(|name| begins(&name)))
        .collect();
    match candidates[..] {
        [] => Ok(None),
        [(index, _)] => Ok(Some(index)),
        _ => {
            let matches: Vec<_> = candidates.iter().flat_map(|(_, flag)| flag.names().filter(begins)).collect();
            Err(UsageError::Grammar(format!(
                "ambiguous option: {} could match {}",
                argument.to_string_lossy(),
                matches.join(", ")
            )))
        }
    }
}

/// `-1`, `-1.5`, `-.5`: values, as no flag looks like them.
fn is_negative_number(bytes: &[u8]) -> bool {
    let digits = |part: &[u8]| part.iter().all(u8::is_ascii_digit);
    match bytes[1..].split(|&byte| byte == b'.').collect::<Vec<_>>()[..] {
        [whole] => !whole.is_empty() && digits(whole),
        [whole, fraction] => !fraction.is_empty() && digits(whole) && digits(fraction),
        _ => false,
    }
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
