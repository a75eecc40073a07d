//! Becoming Python's torchrun, for what only Python can do.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::alias::first_in;
use crate::plan::{Environment, Interpreter};
use crate::{command_line, gang};

/// Holds the process number of the launcher that handed over. An exec keeps the number, so one that finds its own there has been handed
/// its own command line back.
const HANDED_OVER: &str = "ZENITH_RUN_HANDED_OVER";

/// Where `is_legacy`, torch.distributed.launch. It returns only if that cannot be started.
pub(crate) fn to_python(
    python: &Interpreter,
    arguments: &[OsString],
    is_legacy: bool,
    environment: &Environment,
) -> io::Error {
    let own = std::process::id().to_string();
    if environment.text(HANDED_OVER).as_deref() == Some(&own) || is_this_program(python, environment) {
        let program = python.own.display();
        return io::Error::other(format!(
            "{program} leads back to zenith-run instead of a Python. Name one that has torch by --python, and look at `torchrun` and `python3` in PATH"
        ));
    }
    let module = if is_legacy { "torch.distributed.launch" } else { "torch.distributed.run" };
    let arguments = command_line::without_ours(arguments);
    gang::release();
    let error = Command::new(&python.own).args(["-m", module]).args(arguments).env(HANDED_OVER, own).exec();
    let what = format!(
        "{} cannot be started: {error}. Install zenith-run beside a Python with torch, or activate its environment",
        python.own.display()
    );
    io::Error::new(error.kind(), what)
}

/// Whether the Python is a link to this program, as a `torchrun` of ours would be.
fn is_this_program(python: &Interpreter, environment: &Environment) -> bool {
    let named = Path::new(&python.own);
    let found = if named.components().count() > 1 {
        Some(PathBuf::from(named))
    } else {
        named.to_str().and_then(|name| first_in(environment.get("PATH"), name))
    };
    let resolved = found.and_then(|path| path.canonicalize().ok());
    resolved.is_some() && resolved == std::env::current_exe().ok().and_then(|path| path.canonicalize().ok())
}
