"""Builds the engine and the launcher (Rust), and then the thin torch module (C++). Metadata is in pyproject.toml."""

import json
import os
import subprocess
import sys
import sysconfig
import warnings
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools_rust import Binding, RustBin, RustExtension, Strip

ROOT = Path(__file__).parent
ENGINE = "_engine.abi3.so"
# auto: build zenith_torch where torch is installed. 1: fail where it is not. 0: leave it out.
BUILD_TORCH = os.environ.get("ZENITH_BUILD_TORCH", "auto")


def torch_folder() -> Path | None:
    """Where torch is installed. With build isolation that is the environment pip installs into, not the build's own."""
    folders = [*sys.path, sysconfig.get_path("platlib"), sysconfig.get_path("purelib")]
    for folder in folders:
        if (Path(folder) / "torch" / "include" / "torch" / "csrc" / "stable").is_dir():
            return Path(folder) / "torch"
    return None


def bridge_folder() -> Path:
    """Where the build script of zenith-ffi leaves the C++ side of the bridge."""
    command = ["cargo", "metadata", "--format-version", "1", "--no-deps"]
    metadata = json.loads(subprocess.check_output(command, cwd=ROOT))
    profile = os.environ.get("SETUPTOOLS_RUST_CARGO_PROFILE", "release").replace("dev", "debug")
    triple = os.environ.get("CARGO_BUILD_TARGET", "")
    return Path(metadata["target_directory"]) / triple / profile / "bridge"


def torch_module() -> Extension | None:
    if BUILD_TORCH == "0":
        return None
    torch = torch_folder()
    if torch is None:
        text = "torch 2.11 or newer is not installed here, so zenith_torch is left without its ops"
        if BUILD_TORCH == "1":
            raise SystemExit(f"error: {text}. Run `pip install torch` first.")
        warnings.warn(f"{text}; reinstall after `pip install torch` if you want it.", stacklevel=1)
        return None
    return Extension(
        "zenith_torch._C",
        sources=sorted(str(path.relative_to(ROOT)) for path in (ROOT / "cpp/torch").glob("*.cpp")),
        depends=[str(path) for path in sorted((ROOT / "cpp").rglob("*.h"))] + ["cpp/torch/exports.map"],
        include_dirs=[str(torch / "include")],
        library_dirs=[str(torch / "lib")],
        libraries=["torch_cpu"],
        define_macros=[("Py_LIMITED_API", "0x030a0000")],
        extra_compile_args=["-std=c++17", "-O2", "-g0", "-Wall", "-fvisibility=hidden", "-fvisibility-inlines-hidden"],
        extra_link_args=[
            "-Wl,--version-script=cpp/torch/exports.map",
            "-Wl,--no-undefined-version",
            "-Wl,--as-needed",
            "-Wl,-rpath,$ORIGIN/../zenith",
            "-Wl,-s",
        ],
        language="c++",
        py_limited_api=True,
    )


class build_engine_first(build_ext):  # noqa: N801  (setuptools wants the name of the command)
    """The thin modules link to the engine and compile sources that its build writes."""

    def run(self) -> None:
        engine = self.get_finalized_command("build_rust")
        engine.inplace = self.inplace
        engine.run()
        built = Path(self.get_ext_fullpath("zenith._engine")).with_name(ENGINE)
        bridge = bridge_folder()
        for module in self.extensions:
            module.sources += [str(bridge / "engine.cc"), str(bridge / "src/cxx.cc")]
            module.include_dirs.append(str(bridge))
            module.extra_objects = [str(built)]
        super().run()


module = torch_module()
setup(
    rust_extensions=[
        RustExtension(
            "zenith._engine",
            path="rust/zenith-ffi/Cargo.toml",
            binding=Binding.PyO3,
            py_limited_api=True,
            args=["--locked"],
            debug=False,
            strip=Strip.Debug,
        ),
        # A native program in the scripts, as it is: no Python starts it.
        RustBin("zenith-run", path="rust/zenith-cluster/Cargo.toml", args=["--locked"], debug=False, strip=Strip.All),
    ],
    ext_modules=[module] if module else [],
    cmdclass={"build_ext": build_engine_first},
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
)
