//! `zenith-run`, which takes the place of `torchrun`.

fn main() -> std::process::ExitCode {
    std::process::ExitCode::FAILURE
}
