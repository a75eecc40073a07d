"""What does a state cost: the time of one `state_dict()`, and an epoch that takes one at every step against one that takes none?"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.loaders.data import Files
from benchmarks.loaders.handover import percentiles
from benchmarks.loaders.special import verdict, zenith_missing

LOADERS = {
    "python": "Python dataset, 2 worker processes, batches of 256",
    "native": "Parquet, 2 threads, batches of 4096",
}
STATE_US_MAX = 1000.0
EVERY_STEP_MAX = 1.03
"""An epoch with a state at every step may take this much of one without."""
PYTHON_STEPS = 4000
PAIRS = 9


def measure(files: Files, quick: bool) -> dict[str, Any]:
    """One fresh process per loader."""
    from benchmarks.loaders.process import ChildError, run_child

    rows: list[list[object]] = []
    problems = [why] if (why := zenith_missing()) else []
    for who, title in LOADERS.items() if not problems else ():
        job = {"mode": "state_cost", "who": who, "files": files.to_json(), "pairs": 3 if quick else PAIRS}
        try:
            found = run_child(job)
        except ChildError as error:
            problems.append(f"{title}: {error}")
            continue
        state = [found["p99_us"], found["p50_us"], STATE_US_MAX, verdict(found["p50_us"], STATE_US_MAX)]
        epoch = [found["ratio"], EVERY_STEP_MAX, verdict(found["ratio"], EVERY_STEP_MAX)]
        rows.append([f"state: {title}", *state, *epoch])
    result: dict[str, Any] = {
        "title": "Cost of a state",
        "columns": [
            *("loader, shuffled", "state_dict() p99 µs", "p50 µs", "bar µs", ""),
            *("epoch with a state at every step ÷ without", "bar of every step", ""),
        ],
        "rows": rows,
    }
    return result | ({"error": "; ".join(problems)} if problems else {})


def child(files: Files, job: dict[str, Any], wait_for_go: Callable[[], None]) -> dict[str, float]:
    """Epochs of two like loaders by turns, one of which is asked for its state at every step and the other never.

    Two loaders, because the first state that is asked for may change what a loader notes from then on.
    """
    import zenith_torch  # noqa: F401

    wait_for_go()
    asked, never = (open_loader(files, job["who"]) for _ in range(2))
    states_s: list[float] = []
    epoch_s(asked, [])  # Starts the workers, fills caches and pools.
    epoch_s(never, None)
    ratios = []
    for pair in range(int(job["pairs"])):
        if pair % 2:
            with_s, without_s = epoch_s(asked, states_s), epoch_s(never, None)
        else:
            without_s, with_s = epoch_s(never, None), epoch_s(asked, states_s)
        ratios.append(with_s / without_s)
    return percentiles(np.array(states_s)) | {"ratio": statistics.median(ratios)}


def open_loader(files: Files, who: str) -> Any:
    """The loader of a row, shuffled."""
    if who == "native":
        from benchmarks.loaders.first_batch import open_loader as open_native

        return open_native(files, "shuffled")
    from benchmarks.loaders.python_datasets import WORKS
    from benchmarks.loaders.python_datasets import open_loader as open_python

    length = PYTHON_STEPS * WORKS["python-dict"].batch_size
    return open_python("zenith_torch", "python-dict", length, shuffle=True, persistent_workers=True)


def epoch_s(loader: Any, states_s: list[float] | None) -> float:
    """Seconds from an epoch's first batch to its last, a state taken after each; how long each took is added to `states_s`.

    `states_s` is None where no state is taken.
    """
    clock = time.perf_counter
    first_s = last_s = None
    for _ in loader:
        if states_s is not None:
            before_s = clock()
            loader.state_dict()
            states_s.append(clock() - before_s)
        last_s = clock()
        first_s = last_s if first_s is None else first_s
    assert first_s is not None
    assert last_s is not None
    return last_s - first_s
