"""Builds the engine and the launcher (Rust), and then the thin torch and XLA modules (C++). Metadata is in pyproject.toml."""

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
# The same for zenith_jax and jaxlib, whose version does not matter: the headers come from the one that is pinned.
BUILD_JAX = os.environ.get("ZENITH_BUILD_JAX", "auto")
CXX_FLAGS = ["-std=c++17", "-O2", "-g0", "-Wall", "-fvisibility=hidden", "-fvisibility-inlines-hidden"]
LINK_FLAGS = ["-Wl,--no-undefined-version", "-Wl,--as-needed", "-Wl,-rpath,$ORIGIN/../zenith", "-Wl,-s"]


def installed(path: str) -> Path | None:
    """A folder of site-packages. With build isolation they are those pip installs into, not the build's own."""
    folders = [*sys.path, sysconfig.get_path("platlib"), sysconfig.get_path("purelib")]
    return next((Path(folder) / path for folder in folders if (Path(folder) / path).is_dir()), None)


def sources(module: str) -> dict[str, list[str]]:
    """The C++ sources of a thin module, and what they are made anew for."""
    return {
        "sources": sorted(str(path.relative_to(ROOT)) for path in (ROOT / "cpp" / module).glob("*.cpp")),
        "depends": [str(path) for path in sorted((ROOT / "cpp").rglob("*.h"))] + [f"cpp/{module}/exports.map"],
    }


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
    headers = installed("torch/include/torch/csrc/stable")
    if headers is None:
        text = "torch 2.11 or newer is not installed here, so zenith_torch is left without its ops"
        if BUILD_TORCH == "1":
            raise SystemExit(f"error: {text}. Run `pip install torch` first.")
        warnings.warn(f"{text}; reinstall after `pip install torch` if you want it.", stacklevel=1)
        return None
    torch = headers.parents[3]
    return Extension(
        "zenith_torch._C",
        **sources("torch"),
        include_dirs=[str(torch / "include")],
        library_dirs=[str(torch / "lib")],
        libraries=["torch_cpu"],
        define_macros=[("Py_LIMITED_API", "0x030a0000")],
        extra_compile_args=CXX_FLAGS,
        extra_link_args=["-Wl,--version-script=cpp/torch/exports.map", *LINK_FLAGS],
        language="c++",
        py_limited_api=True,
    )


def xla_module() -> Extension | None:
    if BUILD_JAX == "0" or (BUILD_JAX != "1" and installed("jaxlib") is None):
        return None
    found = subprocess.run([sys.executable, "scripts/xla_headers.py"], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if found.returncode != 0:
        if BUILD_JAX == "1":
            raise SystemExit("error: zenith_jax cannot be built, see above.")
        warnings.warn("zenith_jax is left without its handlers, see above.", stacklevel=1)
        return None
    return Extension(
        "zenith_jax._xla",
        **sources("xla"),
        # As a system's headers: their warnings are not ours.
        extra_compile_args=["-isystem", found.stdout.strip(), *CXX_FLAGS],
        extra_link_args=["-Wl,--version-script=cpp/xla/exports.map", *LINK_FLAGS],
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

    def get_ext_filename(self, fullname: str) -> str:
        """The XLA module is no Python module: ctypes opens it, by a name that says so."""
        name = super().get_ext_filename(fullname)
        return name.replace(".abi3", "") if fullname.endswith("_xla") else name


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
    ext_modules=[module for module in (torch_module(), xla_module()) if module],
    cmdclass={"build_ext": build_engine_first},
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
)
