"""How soon comes the first batch when workers are spawned and the dataset is a large object that must be sent to each?"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

from benchmarks.loaders.data import Files
from benchmarks.loaders.special import verdict, zenith_missing

OBJECT_BYTES = 200_000_000
PATTERN = bytes(range(251))
"""A prime count, so that no batch is like its neighbour."""
BATCH_SIZE = 64
PACKAGES = {"torch": "torch.utils.data", "Zenith": "zenith_torch"}
RATIO_MAX = 0.65
RUNS = 3


class Payload:
    """A dataset that is plain bytes; sample i is byte i, as an int."""

    def __init__(self, size: int) -> None:
        self.payload = (PATTERN * (size // len(PATTERN) + 1))[:size]

    def __len__(self) -> int:
        return len(self.payload)

    def __getitem__(self, index: int) -> int:
        return self.payload[index]


def measure(files: Files, quick: bool) -> dict[str, Any]:
    """Three fresh processes each (one if quick), by turns; the ratio is that of a turn, its median counts."""
    from benchmarks.loaders.process import ChildError, run_child

    rows: list[list[object]] = []
    problems = [why] if (why := zenith_missing()) else []
    packages = {who: package for who, package in PACKAGES.items() if who != "Zenith" or not problems}
    found: dict[str, list[float]] = {who: [] for who in packages}
    try:
        for _ in range(1 if quick else RUNS):
            for who, package in packages.items():
                job = {"mode": "spawn_start", "package": package, "files": files.to_json()}
                found[who].append(run_child(job)["first_batch_s"])
    except ChildError as error:
        problems.append(f"{who}: {error}")
    ratios = [ours / torchs for ours, torchs in zip(found.get("Zenith", []), found["torch"], strict=False)]
    for who, times_s in found.items():
        if times_s:
            rows.append([f"{who}, 2 spawned workers", statistics.median(times_s), None, None, None])
    if ratios:
        ratio = statistics.median(ratios)
        rows[-1][2:] = [ratio, RATIO_MAX, verdict(ratio, RATIO_MAX)]
    result: dict[str, Any] = {
        "title": f"First batch of 2 spawned workers, a dataset of {OBJECT_BYTES / 1e6:.0f} MB",
        "columns": ["loader", "first batch s", "÷ torch", "bar ÷ torch", ""],
        "rows": rows,
    }
    return result | ({"error": "; ".join(problems)} if problems else {})


def child(files: Files, job: dict[str, Any], wait_for_go: Callable[[], None]) -> dict[str, float]:
    """Seconds from the constructor to the first batch; the dataset exists already, the main process has imported all."""
    import importlib

    data_loader = importlib.import_module(job["package"]).DataLoader
    dataset = Payload(OBJECT_BYTES)
    wait_for_go()
    started_s = time.perf_counter()
    loader = data_loader(dataset, batch_size=BATCH_SIZE, num_workers=2, multiprocessing_context="spawn")
    batch = next(iter(loader))
    first_batch_s = time.perf_counter() - started_s
    if batch.tolist() != list(PATTERN[:BATCH_SIZE]):
        raise RuntimeError(f"{job['package']}: the first batch is not the first {BATCH_SIZE} bytes of the dataset")
    return {"first_batch_s": first_batch_s}
