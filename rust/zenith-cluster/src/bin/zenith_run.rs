//! `zenith-run`, which takes the place of `torchrun`.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    ExitCode::from(zenith_cluster::run::run(&arguments, std::env::vars_os()))
}
