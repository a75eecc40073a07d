"""The parts beside the rounds: each is a module with `measure(files, quick) -> dict` and its own question."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from benchmarks.loaders.data import Files
from benchmarks.loaders.rounds import progress

PARTS: dict[str, str] = {
    "handover": "handover",
    "process_handover": "process_handover",
    "first_batch": "first_batch",
    "spawn": "spawn_start",
    "state": "state_cost",
    "memory": "memory_scenario",
    "images": "picture_start",
}
"""Part → module."""

MISSED = "**missed**"


def run_parts(parts: list[str], files: Files, quick: bool) -> dict[str, Any]:
    """The results by part; a part that cannot run says why under "error"."""
    results: dict[str, Any] = {}
    for part in parts:
        progress(f"part {part}")
        module = importlib.import_module(f"benchmarks.loaders.{PARTS[part]}")
        results[part] = module.measure(files, quick)
    if parts:
        progress("parts: done", end="\n")
    return results


def verdict(value: float, bar: float | None) -> str | None:
    """What the last column of a part's table says: these bars are all upper bounds."""
    return None if bar is None else "met" if value <= bar else MISSED


def zenith_missing() -> str | None:
    """Why Zenith cannot run here, or None."""
    for module in ("zenith", "zenith_torch"):
        if importlib.util.find_spec(module) is None:
            return f"needs the module {module}, which is not installed"
    return None
