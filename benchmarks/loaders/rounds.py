"""The gate and the interleaved rounds: every contender once per round, each time in a fresh process."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Iterator
from typing import Any

from benchmarks.loaders import photographs
from benchmarks.loaders.child import EPOCHS_MAX
from benchmarks.loaders.contender import Contender
from benchmarks.loaders.data import Files, warm
from benchmarks.loaders.pictures import WORKS as PICTURE_WORKS
from benchmarks.loaders.process import ChildError, run_child
from benchmarks.loaders.python_datasets import WORKS

BUDGET_S_MAX: dict[str, float] = {"tokens": 3.0, **dict.fromkeys(WORKS, 2.0), **dict.fromkeys(PICTURE_WORKS, 5.0)}
"""By work: token windows are drawn without end or by the ten thousands, samples of Python datasets are all alike, and pictures
cost all about the same; this is enough for a steady figure."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """How often and how long."""

    runs: int
    budget_s: float
    gate_budget_s: float


def prepare_all(contenders: list[Contender], all_files: tuple[Files, ...]) -> dict[str, str]:
    """What contenders need once (a cache), in no figure. Returns why some cannot run."""
    failed = {}
    for contender in contenders:
        if contender.prepare is None:
            continue
        progress(f"prepare {contender.name}")
        try:
            for files in all_files:
                contender.prepare(files)
        except Exception as error:
            failed[contender.name] = f"prepare: {error}"
    return failed


def gate_all(
    contenders: list[Contender], small: Files, large: Files, settings: Settings
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Checks everyone on the small files (whole epochs, every row) and then on the large ones (as far as the budget goes).

    Large ones are for readers of the table: they meet full blocks there, while the others only repeat. Returns what was found
    on the small ones, and why some failed.
    """
    found, failed = {}, {}
    for position, contender in enumerate(contenders):
        progress(f"gate {position + 1}/{len(contenders)} {contender.name}")
        try:
            found[contender.name] = run_child(job("gate", contender, small, 2, 600.0))
            if contender.work not in ("tokens", *WORKS, *PICTURE_WORKS):
                run_child(job("gate", contender, large, 1, settings.gate_budget_s))
        except ChildError as error:
            failed[contender.name] = f"gate: {error}"
            print(f"\n  {contender.name} gets no figure: {error}", file=sys.stderr)
    progress("gate: done", end="\n")
    return found, failed


def run_rounds(contenders: list[Contender], files: Files, settings: Settings) -> dict[str, Any]:
    """`{"runs": [...], "failures": {...}}`; each run has its contender, its round, the figures and `peak_mib`.

    The order turns by one place per round, so that nobody always runs after the same neighbour. The memory is sampled in a
    second process of the same contender, which runs one epoch and whose times are not used.
    """
    runs: list[dict[str, Any]] = []
    failures: dict[str, str] = {}
    for step, (round_index, contender) in enumerate(turns(contenders, settings.runs)):
        if contender.name in failures:
            continue
        progress(
            f"round {round_index + 1}/{settings.runs}, {step + 1}/{settings.runs * len(contenders)} {contender.name}"
        )
        if contender.path is not None:
            warm(contender.path(files))
        if contender.work in PICTURE_WORKS:
            photographs.of(files).warm()
        budget_s = min(settings.budget_s, BUDGET_S_MAX.get(contender.work, settings.budget_s))
        try:
            figures = run_child(job("time", contender, files, epochs_of(contender.work), budget_s))
            memory = run_child(job("memory", contender, files, 1, min(budget_s, 6.0)), sample_memory=True)
        except ChildError as error:
            failures[contender.name] = str(error)
            print(f"\n  {contender.name} failed: {error}", file=sys.stderr)
            continue
        runs.append(
            {"contender": contender.name, "round": round_index, **figures}
            | {"peak_mib": memory["peak_mib"], "imports_mib": memory["imports_mib"]}
        )
    progress("rounds: done", end="\n")
    return {"runs": runs, "failures": failures}


def epochs_of(work: str) -> int:
    """Epochs of a timed run: two; as many as the budget allows of pictures, whose epochs last a second or less."""
    return EPOCHS_MAX if work in PICTURE_WORKS else 2


def turns(contenders: list[Contender], rounds: int) -> Iterator[tuple[int, Contender]]:
    """(round, contender), the list turned by one place per round."""
    for round_index in range(rounds):
        shift = round_index % max(1, len(contenders))
        for contender in contenders[shift:] + contenders[:shift]:
            yield round_index, contender


def job(mode: str, contender: Contender, files: Files, epochs: int, budget_s: float) -> dict[str, Any]:
    """The message to the child process."""
    return {
        "mode": mode,
        "contender": contender.name,
        "files": files.to_json(),
        "epochs": epochs,
        "budget_s": budget_s,
    }


STARTED_S = time.perf_counter()


def progress(text: str, end: str = "") -> None:
    """One line that is written over on a terminal, and a line each elsewhere."""
    elapsed_s = time.perf_counter() - STARTED_S
    if sys.stderr.isatty():
        print(f"\r\033[K[{elapsed_s:5.0f} s] {text}", end=end, file=sys.stderr, flush=True)
    else:
        print(f"[{elapsed_s:5.0f} s] {text}", file=sys.stderr, flush=True)
