"""How long does `next()` take in the main process when a batch of a Python dataset, made by worker processes, lies ready?"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from benchmarks.loaders.data import Files
from benchmarks.loaders.handover import WAIT_S, WARM_UP, percentiles, timed_nexts
from benchmarks.loaders.python_datasets import SMALL_VALUES, small_fields
from benchmarks.loaders.special import verdict, zenith_missing

BATCH_SIZE = 8
"""Small, so that the workers are soon ahead: what is timed is the hand-over, not their work."""
LARGE_VALUES = 512 << 10
"""f32 values of a large tensor of a sample: a batch has 16 MiB of each."""
CASES = (*((tensors, SMALL_VALUES) for tensors in (2, 29, 114)), (2, LARGE_VALUES))
PACKAGES = {"Zenith": "zenith_torch", "torch": "torch.utils.data"}
BAR_US, BAR_US_PER_TENSOR = 25.0, 0.5
SECONDS_MAX = 4.0
"""Of one row: where batches take long to make, fewer are timed."""
NEXTS_MIN = 50
MEASURED = 20
"""Batches that tell how long one takes."""
WAIT_S_MAX = 0.05
"""Ours are made well within it; where torch's are not, what is timed is the wait for them, and nothing is judged by it."""


def measure(files: Files, quick: bool) -> dict[str, Any]:
    """One fresh process per row."""
    from benchmarks.loaders.process import ChildError, run_child

    rows: list[list[object]] = []
    problems = []
    for who, package in PACKAGES.items():
        if who == "Zenith" and (why := zenith_missing()):
            problems.append(why)
            continue
        for tensors, values in CASES:
            title = f"next(), {who}, tensors of {4 * values * BATCH_SIZE / 1024:,.1f} KiB"
            job = {"mode": "process_handover", "package": package, "tensors": tensors, "values": values}
            try:
                found = run_child(job | {"files": files.to_json(), "nexts": 200 if quick else 2000})
            except ChildError as error:
                problems.append(f"{title}: {error}")
                continue
            bar = BAR_US + BAR_US_PER_TENSOR * tensors if who == "Zenith" else None
            row = [title, tensors, found["wait_us"], found["p99_us"], found["p50_us"], bar]
            rows.append([*row, verdict(found["p50_us"], bar)])
    result: dict[str, Any] = {
        "title": "Hand-over of a ready batch from worker processes",
        "columns": ["what", "tensors", "wait before µs", "p99 µs", "p50 µs", "bar µs", ""],
        "rows": rows,
    }
    return result | ({"error": "; ".join(problems)} if problems else {})


def child(files: Files, job: dict[str, Any], wait_for_go: Callable[[], None]) -> dict[str, float]:
    """One row: the times of `next()` in µs.

    The wait before each is three times what a batch took just before, so that the workers, who share the cores with the
    consumer that waits busily, are ahead.
    """
    import importlib

    data_loader = importlib.import_module(job["package"]).DataLoader
    wait_for_go()
    nexts = int(job["nexts"])
    dataset = small_fields(
        (1 + MEASURED + WARM_UP + nexts) * BATCH_SIZE, int(job["tensors"]), int(job["values"]), count=BATCH_SIZE
    )
    loader = data_loader(dataset, batch_size=BATCH_SIZE, num_workers=2, multiprocessing_context="fork")
    batches = iter(loader)
    next(batches)
    started_s = time.perf_counter()
    for _ in range(MEASURED):
        next(batches)
    wait_s = min(max(WAIT_S, 3 * (time.perf_counter() - started_s) / MEASURED), WAIT_S_MAX)
    nexts = min(nexts, max(NEXTS_MIN, int(SECONDS_MAX / wait_s)))
    return percentiles(timed_nexts(batches, nexts, wait_s)) | {"wait_us": wait_s * 1e6}
