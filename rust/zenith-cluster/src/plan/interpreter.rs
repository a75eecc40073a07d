//! Which Python runs the script.

use std::ffi::OsString;
use std::path::PathBuf;

use super::{Environment, Machine};

/// A program for scripts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interpreter {
    pub program: OsString,
    /// The Python that is taken where `PYTHON_EXEC` names none.
    pub own: OsString,
}

impl Interpreter {
    /// Where somebody has said which Python it is.
    pub fn named(own: OsString, environment: &Environment) -> Self {
        Self { program: environment.get("PYTHON_EXEC").map_or_else(|| own.clone(), Into::into), own }
    }

    /// Whether `PYTHON_EXEC` named another; failures are then called after it (TB-9).
    pub fn is_foreign(&self) -> bool {
        self.program != self.own
    }
}

/// `$PYTHON_EXEC`, else the `python3` beside this program, else that of the active environment, else the one in `PATH`. A folder
/// counts if `exists` says that it has one.
pub fn interpreter(environment: &Environment, machine: &Machine, exists: impl Fn(&PathBuf) -> bool) -> Interpreter {
    let of_variable =
        |name| environment.get(name).filter(|value| !value.is_empty()).map(|value| PathBuf::from(value).join("bin"));
    let folders = [machine.program_folder.clone(), of_variable("VIRTUAL_ENV"), of_variable("CONDA_PREFIX")];
    let found = folders.into_iter().flatten().map(|folder| folder.join("python3")).find(|python| exists(python));
    let own: OsString = found.map_or_else(|| "python3".into(), Into::into);
    Interpreter::named(own, environment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_python_is_taken() {
        let machine = Machine { program_folder: Some("/env/bin".into()), ..Machine::default() };
        for (variables, existing, program, is_foreign) in [
            (&[][..], &["/env/bin/python3"][..], "/env/bin/python3", false),
            (&[("VIRTUAL_ENV", "/v")], &["/v/bin/python3"], "/v/bin/python3", false),
            (&[("VIRTUAL_ENV", "/v")], &["/env/bin/python3", "/v/bin/python3"], "/env/bin/python3", false),
            (
                &[("CONDA_PREFIX", "/c"), ("VIRTUAL_ENV", "")],
                &["/c/bin/python3", "/bin/python3"],
                "/c/bin/python3",
                false,
            ),
            (&[], &[], "python3", false),
            (&[("PYTHON_EXEC", "/p")], &["/env/bin/python3"], "/p", true),
            (&[("PYTHON_EXEC", "/env/bin/python3")], &["/env/bin/python3"], "/env/bin/python3", false),
        ] {
            let environment = variables.iter().copied().collect();
            let found =
                interpreter(&environment, &machine, |path| existing.iter().any(|known| path == &PathBuf::from(known)));
            assert_eq!(
                (found.program.to_str(), found.is_foreign()),
                (Some(program), is_foreign),
                "{variables:?} {existing:?}"
            );
        }
    }
}
