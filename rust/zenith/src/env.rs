//! The one place that reads the environment.

/// Usable processors: what the scheduler lets this process run on.
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
