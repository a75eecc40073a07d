"""The fresh process in which one contender runs once; started by `process.run_child`, never by hand.

It reads one JSON line (the job) from stdin, imports what the job needs, prints `@imported`, waits for a line, works, and
prints `@result <json>`.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from typing import Any

import numpy as np

from benchmarks.loaders.contender import Contender, Feed, all_contenders, count, samples_of_epoch
from benchmarks.loaders.data import Files

EPOCHS_MAX = 1000


def main() -> None:
    """Runs one job and exits."""
    job = json.loads(sys.stdin.readline())
    files = Files.from_json(job["files"])
    if job["mode"] in ("time", "memory", "gate"):
        contender = all_contenders()[job["contender"]]
        contender.import_all()
        wait_for_go()
        if job["mode"] == "gate":
            from benchmarks.loaders.gate import check

            result = check(contender, files, job["epochs"], job["budget_s"])
        else:
            result = timed(contender, files, job["epochs"], job["budget_s"])
    else:
        import importlib

        result = importlib.import_module(f"benchmarks.loaders.{job['mode']}").child(files, job, wait_for_go)
    print("@result " + json.dumps(result), flush=True)


def wait_for_go() -> None:
    """Tells the parent that the imports are done, and lets it take its baseline."""
    gc.collect()
    print("@imported", flush=True)
    sys.stdin.readline()


def timed(contender: Contender, files: Files, epochs: int, budget_s: float) -> dict[str, Any]:
    """Opens the contender and takes its batches as fast as it gives them, for `epochs` epochs or `budget_s` seconds.

    The budget runs from the first batch, so that opening slowly costs nobody the figure. The consumer does nothing with a
    batch but count and drop it. The rate is that of the epochs after the first, where workers and caches are warm; if the
    budget ends before half of a second epoch, that of the first after its first batch; None if no batch came after it.
    """
    cpu_before_s, opened_s = cpu_seconds(), time.perf_counter()
    feed = contender.open(files)
    stamps: list[list[float]] = []
    rows: list[list[int]] = []
    whole_epochs = []
    for epoch in range(EPOCHS_MAX if contender.order == "random" else epochs):
        stamps.append([time.perf_counter()])
        rows.append([0])
        whole = take_epoch(feed, epoch, budget_s, stamps, rows[-1])
        whole_epochs.append(whole)
        if not whole:
            break
    wall_s = time.perf_counter() - opened_s
    del feed
    gc.collect()
    cpu_s = cpu_seconds() - cpu_before_s
    check_counts(contender, files, rows, whole_epochs)
    total_rows = sum(map(sum, rows))
    later_rows = sum(map(sum, rows[1:]))
    samples_per_s: float | None
    if later_rows * 2 >= sum(rows[0]) and contender.order != "random":
        elapsed_s = sum(times[-1] - times[0] for times in stamps[1:])
        samples_per_s, window = later_rows / elapsed_s, "later epochs"
        gaps_s = np.concatenate([np.diff(times) for times in stamps[1:]])
    else:
        elapsed_s = sum(times[-1] - times[1 if index == 0 else 0] for index, times in enumerate(stamps))
        samples_per_s, window = None, "after the first batch"
        if elapsed_s > 0:
            samples_per_s = (total_rows - rows[0][1]) / elapsed_s
        gaps_s = np.concatenate([np.diff(times[1:] if index == 0 else times) for index, times in enumerate(stamps)])
    return {
        "samples_per_s": samples_per_s,
        "window": window,
        "first_batch_s": stamps[0][1] - opened_s,
        "gap_p50_ms": float(np.percentile(gaps_s, 50)) * 1e3 if len(gaps_s) else None,
        "gap_p99_ms": float(np.percentile(gaps_s, 99)) * 1e3 if len(gaps_s) else None,
        "cpu_s": cpu_s,
        "cpu_s_per_million": cpu_s / total_rows * 1e6,
        "samples": total_rows,
        "epochs": sum(whole_epochs),
        "wall_s": wall_s,
    }


def take_epoch(feed: Feed, epoch: int, budget_s: float, stamps: list[list[float]], rows: list[int]) -> bool:
    """Takes one epoch's batches, noting when each came (in the last of `stamps`) and its samples.

    Returns False if `budget_s`, counted from the first batch of the first epoch, ran out before the end.
    """
    clock = time.perf_counter
    first, of_epoch = stamps[0], stamps[-1]
    for batch in feed.epoch(epoch):
        now_s = clock()
        of_epoch.append(now_s)
        rows.append(count(batch))
        if now_s > first[1] + budget_s:
            return False
    return True


def check_counts(contender: Contender, files: Files, rows: list[list[int]], whole_epochs: list[bool]) -> None:
    """Refuses a figure of a contender that lost or repeated samples at full size."""
    expected = samples_of_epoch(contender, files)
    if expected is None:
        return
    for counts, whole in zip(rows, whole_epochs, strict=True):
        if whole and sum(counts) != expected:
            raise RuntimeError(f"{contender.name} delivered {sum(counts)} samples in an epoch of {expected}")


def cpu_seconds() -> float:
    """User and system time of this process and of the children that it has waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


if __name__ == "__main__":
    main()
