//! The driver that is opened at run time, with a library in the place of libcuda that notes what is asked of it.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Where the examples are built, beside the folder of this test.
fn examples() -> PathBuf {
    std::env::current_exe().unwrap().parent().unwrap().with_file_name("examples")
}

/// Runs the example `lifetime` with a folder of libraries in front.
fn lifetime(libraries: &Path) -> Output {
    Command::new(examples().join("lifetime")).env("LD_LIBRARY_PATH", libraries).output().unwrap()
}

#[test]
fn the_driver_is_found_and_called_by_its_rules_and_gets_all_back() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["libcuda.so", "libcuda.so.1"] {
        symlink(examples().join("libstub_libcuda.so"), folder.path().join(name)).unwrap();
    }
    let output = lifetime(folder.path());
    let (said, noted) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{said}{noted}");
    assert!(said.contains("held while copies were under way: true"), "{said}");
    assert!(said.contains("what arrived is what was sent: true"), "{said}");
    // The example itself keeps one context, retained and current, to the end.
    assert_eq!(noted, "stub: 0 registered, 0 events, 1 retained, 1 current\n");
}

#[test]
fn a_driver_that_lacks_a_function_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    // A library that exists everywhere and has nothing of the driver API.
    let libc = std::fs::read_to_string("/proc/self/maps").unwrap();
    let libc = libc.lines().find_map(|line| line.split_whitespace().last().filter(|path| path.ends_with("/libc.so.6")));
    for name in ["libcuda.so", "libcuda.so.1"] {
        symlink(libc.unwrap(), folder.path().join(name)).unwrap();
    }
    let output = lifetime(folder.path());
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success());
    assert!(said.starts_with("nothing to show: libcuda.so.1: it has no cuInit; a driver for CUDA 12.5"), "{said}");
}
