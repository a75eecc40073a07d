"""Loads the engine, or says in one sentence why it cannot be loaded here."""

import platform
import sys

SUPPORTED = (("linux", "x86_64"), ("linux", "aarch64"))

_here = (sys.platform, platform.machine())
if _here not in SUPPORTED:
    raise ImportError(
        f"zenith runs on 64-bit Linux (x86_64 or aarch64), this is {_here[0]} on {_here[1]}. "
        "Use Linux, a container, or WSL 2."
    )

try:
    from zenith import _engine as _engine
except ModuleNotFoundError as error:
    if error.name != "zenith._engine":
        raise
    raise ImportError(
        "the engine (zenith/_engine.abi3.so) is missing: this is a source tree that was not built. "
        "Run `make setup` or `pip install -e .` in it."
    ) from error
