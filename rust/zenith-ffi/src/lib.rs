//! Carries the engine across to Python (pyo3) and to the thin C++ modules (cxx).
//! Start at `bridge` (what C++ calls), `python` (what Python sees) and `registry::BatchSource` (what a loader implements).
//! Invariants: FFI-1 no panic crosses a door, every door goes through `guard`; FFI-2 a handle is an id that is checked
//! for liveness at each use; FFI-3 a lease is released exactly once, by whoever drops it; FFI-4 so is a tensor of
//! a framework, by the functions that made it; DLPACK-1 what a capsule points to lives until its deleter is called, once;
//! XLA-1 (`xla`) what a request names is written during the request only.
//! Refuses to: hold options, retry, start threads, cache. Tests: `tests/torch/test_link.py`, `tests/jax`.

mod bridge;
mod field_memory;
mod guard;
mod python;
mod registry;
mod tensors;
mod xla;
