"""How long does `next()` take when the batch is ready? For 2, 29 and 114 tensors; and the p99 gap of a loader that is ahead."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks.loaders.data import Files
from benchmarks.loaders.special import verdict, zenith_missing
from benchmarks.loaders.table import FEATURES, LABEL

BATCH_ROWS = 256
"""Small, so that the loader is ahead at once: what is timed is the hand-over, not the work."""
TENSOR_COUNTS = (2, 29, 114)
WAIT_S = 500e-6
WARM_UP = 50
GAP_P99_US_MAX = 100.0


def measure(files: Files, quick: bool) -> dict[str, Any]:
    """One fresh process per row."""
    from benchmarks.loaders.process import ChildError, run_child

    write_wide(files)
    rows: list[list[object]] = []
    problems = []
    for who in ("zenith", "torch, workers=0, ready batches", "torch, workers=1"):
        for tensors in TENSOR_COUNTS:
            job = {
                "mode": "handover",
                "who": who,
                "tensors": tensors,
                "files": files.to_json(),
                "nexts": 300 if quick else 3000,
            }
            if who == "zenith" and (why := zenith_missing()):
                problems.append(why)
                continue
            try:
                found = run_child(job)
            except ChildError as error:
                problems.append(f"{who}, {tensors} tensors: {error}")
                continue
            bar = 10.0 + 0.5 * (tensors - 2) if who == "zenith" else None
            rows.append(
                [f"next(), {who}", tensors, found["p50_us"], found["p99_us"], bar, verdict(found["p50_us"], bar)]
            )
    if not zenith_missing():
        try:
            found = run_child(
                {"mode": "handover", "who": "ahead", "files": files.to_json(), "nexts": 300 if quick else 900}
            )
            title = "p99 of the gap, 1 decode thread, consumer 3 × the batch time"
            p99_us = found["p99_us"]
            rows.append([title, 2, found["p50_us"], p99_us, GAP_P99_US_MAX, verdict(p99_us, GAP_P99_US_MAX)])
        except ChildError as error:
            problems.append(f"gap: {error}")
    result: dict[str, Any] = {
        "title": "Hand-over of a ready batch",
        "columns": ["what", "tensors", "p50 µs", "p99 µs", "bar µs", ""],
        "rows": rows,
    }
    return result | ({"error": "; ".join(dict.fromkeys(problems))} if problems else {})


def wide_path(files: Files) -> str:
    """A Parquet file of 114 f32 columns and 262,144 rows."""
    return os.path.join(files.folder, "wide.parquet")


def write_wide(files: Files) -> None:
    """Writes it if it is missing."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = wide_path(files)
    if os.path.exists(path):
        return
    values = np.random.default_rng(0).standard_normal((114, 1 << 18), np.float32)
    pq.write_table(
        pa.table({f"c{index:03d}": values[index] for index in range(114)}), path + ".part", row_group_size=1 << 15
    )
    os.replace(path + ".part", path)


def child(files: Files, job: dict[str, Any], wait_for_go: Callable[[], None]) -> dict[str, float]:
    """One row: the times of `next()` in µs."""
    import torch.utils.data  # noqa: F401

    if job["who"] in ("zenith", "ahead"):
        import zenith_torch  # noqa: F401
    wait_for_go()
    if job["who"] == "ahead":
        return ahead(files, int(job["nexts"]))
    tensors, nexts = int(job["tensors"]), int(job["nexts"])
    if job["who"] == "zenith":
        batches = zenith_batches(files, tensors)
    else:
        batches = torch_batches(tensors, 0 if "workers=0" in job["who"] else 1, nexts + WARM_UP + 10)
    return percentiles(timed_nexts(batches, nexts, WAIT_S))


def zenith_batches(files: Files, tensors: int) -> Iterator[Any]:
    """Endless batches of that many fields, in file order, by two threads."""
    import zenith
    from zenith_torch import DataLoader

    if tensors == 2:
        dataset = zenith.Parquet(files.parquet, stack={"x": list(FEATURES), "y": LABEL})
    elif tensors == len(FEATURES) + 1:
        dataset = zenith.Parquet(files.parquet)
    else:
        dataset = zenith.Parquet(wide_path(files))
    loader = DataLoader(dataset, batch_size=BATCH_ROWS, num_workers=2, seed=0)
    while True:
        yield from loader


def torch_batches(tensors: int, num_workers: int, batches: int) -> Iterator[Any]:
    """torch's own cost: batches that lie ready in the dataset, handed out by its DataLoader with `batch_size=None`."""
    import torch
    from torch.utils.data import DataLoader

    width = (len(FEATURES), 1) if tensors == 2 else (1,) * tensors
    ready = {f"c{index:03d}": torch.zeros(BATCH_ROWS, columns) for index, columns in enumerate(width)}
    return iter(DataLoader([ready] * batches, batch_size=None, num_workers=num_workers))  # type: ignore[arg-type]


def timed_nexts(batches: Iterator[Any], nexts: int, wait_s: float) -> np.ndarray:
    """The seconds of each `next()`, f64 [nexts], with a busy wait of `wait_s` before each, in which the loader gets ahead."""
    clock = time.perf_counter
    times = np.empty(nexts)
    for index in range(-WARM_UP, nexts):
        until = clock() + wait_s
        while clock() < until:
            pass
        started = clock()
        batch = next(batches)
        if index >= 0:
            times[index] = clock() - started
        del batch
    return times


def ahead(files: Files, nexts: int) -> dict[str, float]:
    """Batches of 4096 rows by one decode thread; the consumer computes for 3 × the batch time, measured just before."""
    import zenith
    from zenith_torch import DataLoader

    dataset = zenith.Parquet(files.parquet, stack={"x": list(FEATURES), "y": LABEL})
    loader = DataLoader(dataset, batch_size=4096, shuffle=True, num_workers=1, seed=0)
    started_s, batches = time.perf_counter(), sum(1 for _ in loader)
    batch_s = (time.perf_counter() - started_s) / batches
    endless = (batch for _ in range(1_000_000) for batch in loader)
    # The first batch of an epoch waits for the plan's first blocks; the gap is asked of a loader that is under way.
    return percentiles(timed_nexts(endless, min(nexts, batches - WARM_UP - 1), 3 * batch_s)) | {
        "batch_us": batch_s * 1e6
    }


def percentiles(times_s: np.ndarray) -> dict[str, float]:
    """Median and 99th percentile in µs."""
    return {"p50_us": float(np.percentile(times_s, 50)) * 1e6, "p99_us": float(np.percentile(times_s, 99)) * 1e6}
