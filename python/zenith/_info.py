"""What the machine and this build have, and why something is off: ``python -m zenith.info``."""

from __future__ import annotations

import json
from typing import Any

from zenith import _platform as _platform  # isort: split

from zenith import _engine


def info() -> dict[str, Any]:
    """A report for people and bug reports: version, processors, NUMA nodes, how files are read, CUDA, io_uring."""
    report: dict[str, Any] = json.loads(_engine.info())
    for name in ("numpy", "torch", "jax", "pyarrow"):
        report[name] = _version(name)
    return report


def _version(name: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def main() -> None:
    """Prints the report, a line each."""
    for key, value in info().items():
        print(f"{key:14} {value}")
