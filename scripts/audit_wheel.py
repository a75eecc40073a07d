"""Checks what the built libraries import: a wheel that links too much breaks on somebody else's torch or CUDA.

Takes one wheel, or the built .so files and the launcher. Needs nm and objdump (binutils).
"""

import re
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

ENGINE = "_engine.abi3.so"
TORCH_MODULE = "_C.abi3.so"
XLA_MODULE = "_xla.so"
LAUNCHER = "zenith-run"
PACKAGES = ("zenith", "zenith_jax", "zenith_torch")
SYSTEM_LIBRARIES = {"libc.so.6", "libm.so.6", "libgcc_s.so.1", "libstdc++.so.6", "libpthread.so.0", "libdl.so.2"}
GLIBC_AND_LIBGCC = {"libc.so.6", "libm.so.6", "libgcc_s.so.1", "libpthread.so.0", "libdl.so.2"}
NEEDED_ALLOWED = {
    ENGINE: SYSTEM_LIBRARIES,
    TORCH_MODULE: {ENGINE, "libtorch_cpu.so", *SYSTEM_LIBRARIES},
    XLA_MODULE: {ENGINE, *SYSTEM_LIBRARIES},
    LAUNCHER: GLIBC_AND_LIBGCC,
}
EXPORTS = {TORCH_MODULE: {"PyInit__C"}, XLA_MODULE: {"zenith_next_batch", "zenith_normalize"}}
STABLE_SHIM = re.compile(r"(aoti_torch|torch)_\w+")
BRIDGE = re.compile(r"(zenith\$)?cxxbridge1\$.+")
PYTHON = re.compile(r"_?Py\w+")


@dataclass
class Library:
    path: Path
    needed: set[str]
    defined: set[str]
    undefined: set[str]
    """Imports that have no symbol version: everything but the C and C++ runtimes."""
    glibc: tuple[int, ...]


def read(path: Path) -> Library:
    headers = run("objdump", "-p", path)
    symbols = [line.split() for line in run("nm", "--dynamic", "--format=posix", path).splitlines()]
    versions = re.findall(r"\bGLIBC_([0-9.]+)", headers)
    return Library(
        path=path,
        needed=set(re.findall(r"NEEDED\s+(\S+)", headers)),
        defined={name.split("@")[0] for name, kind, *_ in symbols if kind not in "Uwv"},
        undefined={name for name, kind, *_ in symbols if kind == "U" and "@" not in name},
        glibc=max((tuple(map(int, version.split("."))) for version in versions), default=(0,)),
    )


def findings(library: Library, engine: Library) -> list[str]:
    """What is wrong with `library`, one sentence each."""
    name = library.path.name
    if name not in NEEDED_ALLOWED:
        return ["is not one of the libraries this wheel should hold"]
    found = []
    loaders = {other for other in library.needed if other.startswith("ld-linux")}
    for other in sorted(library.needed - NEEDED_ALLOWED[name] - loaders):
        found.append(f"needs {other}, which the wheel must not link")
    for symbol in sorted(library.undefined):
        if PYTHON.fullmatch(symbol) and name not in (LAUNCHER, XLA_MODULE):
            continue
        if name == TORCH_MODULE and STABLE_SHIM.fullmatch(symbol):
            continue
        if BRIDGE.fullmatch(symbol):
            if symbol not in engine.defined:
                found.append(f"imports {symbol}, which the engine does not export: built from another Cargo.lock?")
            continue
        found.append(f"imports {symbol}, which is neither a stable C shim of torch, nor Python, nor the engine")
    if name in EXPORTS and library.defined != EXPORTS[name]:
        found.append(f"exports {', '.join(sorted(library.defined))} and not {', '.join(sorted(EXPORTS[name]))}")
    return found


def run(*command: str | Path) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def main(arguments: list[str]) -> int:
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(argument) for argument in arguments]
        if len(paths) == 1 and paths[0].suffix == ".whl":
            print(f"{paths[0].name}: {paths[0].stat().st_size / 2**20:.1f} MiB")
            if "-cp310-abi3-" not in paths[0].name:
                print("  WRONG: the wheel must be tagged cp310-abi3, one for every Python")
                return 1
            with zipfile.ZipFile(paths[0]) as wheel:
                if lacking := [name for name in PACKAGES if f"{name}/py.typed" not in wheel.namelist()]:
                    print(f"  WRONG: {', '.join(lacking)} is missing, or says nothing of its types (py.typed)")
                    return 1
                wheel.extractall(folder)
            scripts = sorted(Path(folder).glob("*.data/scripts/*"))
            if others := [path.name for path in scripts if path.name != LAUNCHER]:
                print(f"  WRONG: {', '.join(others)} among the scripts; a name such as torchrun is another package's")
                return 1
            paths = sorted([*Path(folder).rglob("*.so*"), *scripts])
        libraries = {path.name: read(path) for path in paths}
        if missing := NEEDED_ALLOWED.keys() - libraries.keys():
            print(f"  WRONG: {', '.join(sorted(missing))} is missing")
            return 1
        failed = False
        for name, library in libraries.items():
            glibc = ".".join(map(str, library.glibc))
            print(f"{name}: {library.path.stat().st_size / 2**20:.1f} MiB, glibc >= {glibc}")
            print(f"  needs {', '.join(sorted(library.needed))}")
            for finding in findings(library, libraries[ENGINE]):
                print(f"  WRONG: {finding}")
                failed = True
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
