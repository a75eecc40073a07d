//! Writes the C++ side of the bridge to `<target>/<profile>/bridge`, where `setup.py` compiles it into the thin modules.
#![expect(clippy::disallowed_methods, reason = "cargo talks to a build script through the environment")]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/bridge.rs");
    // The thin modules find the engine by this name, wherever the wheel was unpacked.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,_engine.abi3.so");

    let folder = bridge_folder()?;
    fs::create_dir_all(&folder)?;
    let tokens = fs::read_to_string("src/bridge.rs")?.parse()?;
    let code = cxx_gen::generate_header_and_cc(tokens, &cxx_gen::Opt::default())?;
    write_if_changed(&folder.join("engine.h"), &code.header)?;
    write_if_changed(&folder.join("engine.cc"), &code.implementation)?;

    // A cdylib exports only the bridge's own symbols, so each thin module compiles its own copy of the cxx runtime,
    // taken from the very crate that this build resolved.
    let header = PathBuf::from(env::var("DEP_CXXBRIDGE1_HEADER")?);
    let runtime = header.with_file_name("../src/cxx.cc");
    fs::create_dir_all(folder.join("include"))?;
    fs::create_dir_all(folder.join("src"))?;
    write_if_changed(&folder.join("include/cxx.h"), &fs::read(&header)?)?;
    write_if_changed(&folder.join("src/cxx.cc"), &fs::read(runtime)?)?;
    Ok(())
}

/// `OUT_DIR` is `<target>/<profile>/build/zenith-ffi-<hash>/out`.
fn bridge_folder() -> Result<PathBuf, Box<dyn Error>> {
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let profile = out.ancestors().nth(3).ok_or("OUT_DIR is not where cargo used to put it")?;
    Ok(profile.join("bridge"))
}

/// Keeps the time stamp of what did not change, so that nothing is compiled twice.
fn write_if_changed(path: &Path, content: &[u8]) -> Result<(), Box<dyn Error>> {
    if fs::read(path).is_ok_and(|old| old == content) {
        return Ok(());
    }
    Ok(fs::write(path, content)?)
}
