//! The one place that reads the environment.

use std::path::PathBuf;

/// Usable processors: what the scheduler lets this process run on.
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Where indexes of files are kept: `$ZENITH_CACHE_DIR`, else `zenith` in `$XDG_CACHE_HOME` or `~/.cache`. `None` where
/// none of them is set, or `ZENITH_CACHE_DIR` is empty: nothing is kept then.
pub fn cache_folder() -> Option<PathBuf> {
    if let Some(chosen) = variable("ZENITH_CACHE_DIR") {
        return (!chosen.as_os_str().is_empty()).then_some(chosen);
    }
    let user = variable("XDG_CACHE_HOME").filter(|path| path.is_absolute());
    Some(user.or_else(|| Some(variable("HOME")?.join(".cache")))?.join("zenith"))
}

#[expect(clippy::disallowed_methods, reason = "this is the place")]
fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).map(PathBuf::from)
}
