"""What does a loader hold? Its peak against torch's, its growth over epochs, and the price of keeping every `y`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

from benchmarks.loaders.contender import Feed, all_contenders
from benchmarks.loaders.contenders.torch_iterable import TorchFeed
from benchmarks.loaders.data import Files
from benchmarks.loaders.python_datasets import IMAGE_SHAPE, WORKS, open_loader
from benchmarks.loaders.special import verdict, zenith_missing

PEAKS: tuple[str, ...] = (
    "torch-iterable-parquet-shuffled-w2",
    "zenith-parquet-shuffled-w2",
    "zenith-parquet-1mi-shuffled-w2",
    "zenith-arrow-ipc-one-batch-shuffled-w2",
)
PEAK_BAR_OF_TORCH = 0.75
EPOCHS = 20
PYTHON_EPOCHS = 10
GROWTH_BAR_MIB = 8.0
PYTHON_GROWTH = (
    ("python-dict", True, 200, GROWTH_BAR_MIB),
    ("python-dict", False, 200, GROWTH_BAR_MIB),
    # One batch: how many of these are on their way may differ by one from sample to sample.
    ("python-images", True, 32, WORKS["python-images"].batch_size * math.prod(IMAGE_SHAPE) * 4 / (1 << 20)),
)
"""Python datasets with 2 worker processes: (work, whether the workers persist, batches of an epoch, bar in MiB)."""
KEEPING_SHARE_MAX = 1.1
"""What keeping every y may cost, as a share of y."""


def measure(files: Files, quick: bool) -> dict[str, Any]:
    """Fresh processes, sampled from outside every 10 ms."""
    from benchmarks.loaders.process import ChildError, run_child

    rows: list[list[object]] = []
    problems = []
    why = zenith_missing()
    torch_mib: float | None = None

    def add(title: str, mib: float | None, bar: float | None) -> None:
        if mib is None:
            problems.append(f"{title}: the epochs are too short for samples of the memory; use more --rows")
        else:
            rows.append([title, mib, bar, verdict(mib, bar)])

    def sampled(scenario: str, name: str, epochs: int, **more: Any) -> dict[str, Any] | None:
        job = {
            "mode": "memory_scenario",
            "scenario": scenario,
            "contender": name,
            "epochs": epochs,
            "files": files.to_json(),
            **more,
        }
        try:
            return run_child(job, sample_memory=True)
        except ChildError as error:
            problems.append(f"{scenario} {name}: {error}")
            return None

    for name in PEAKS:
        if name.startswith("zenith") and why:
            continue
        found = sampled("drop", name, 2)
        if found is not None:
            torch_mib = found["peak_mib"] if torch_mib is None and not name.startswith("zenith") else torch_mib
            bar = torch_mib * PEAK_BAR_OF_TORCH if torch_mib and name.startswith("zenith") else None
            add(f"peak, 2 epochs: {name}", found["peak_mib"], bar)
    if why:
        problems.append(why)
    else:
        name = "zenith-parquet-shuffled-w2"
        if (found := sampled("drop", name, 4 if quick else EPOCHS)) is not None:
            add(f"growth over {found['epochs']} epochs: {name}", growth_mib(found), GROWTH_BAR_MIB)
        keeping, dropping = sampled("keep-y", name, 1), sampled("drop", name, 1)
        if keeping is not None and dropping is not None:
            more_mib, y_mib = keeping["peak_mib"] - dropping["peak_mib"], keeping["kept_mib"]
            add(
                f"what keeping every y of an epoch adds to the peak; y is {y_mib:.1f} MiB",
                more_mib,
                KEEPING_SHARE_MAX * y_mib,
            )
        for work, persistent, batches, bar_mib in PYTHON_GROWTH:
            name = f"zenith-{work}-w2"
            found = sampled("python", name, PYTHON_EPOCHS, work=work, persistent=persistent, batches=batches)
            if found is not None:
                workers = "the same workers" if persistent else "new workers in each"
                add(f"growth over {PYTHON_EPOCHS} epochs, {workers}: {name}", growth_mib(found), bar_mib)
    result: dict[str, Any] = {
        "title": "Memory beyond the imports (anonymous + shared, whole process tree)",
        "columns": ["what", "MiB", "bar MiB", ""],
        "rows": rows,
    }
    return result | ({"error": "; ".join(problems)} if problems else {})


def growth_mib(found: dict[str, Any]) -> float | None:
    """The largest sample of the last quarter of the epochs less that of as many epochs from the third on, in MiB.

    The first two epochs warm the allocator and are not growth. Both sides are of equally many epochs, because what the
    allocator keeps from one epoch to the next goes up and down. None where an epoch was over before a sample was taken.
    """
    ends_s: list[float] = found["epoch_ends_s"]
    count = max(1, len(ends_s) // 4)

    def samples(first: int) -> list[int]:
        return [size for at_s, size in found["memory_samples"] if ends_s[first - 1] < at_s <= ends_s[first - 1 + count]]

    early, late = samples(2), samples(len(ends_s) - count)
    return (max(late) - max(early)) / (1 << 20) if early and late else None


def child(files: Files, job: dict[str, Any], wait_for_go: Callable[[], None]) -> dict[str, Any]:
    """Takes epochs and drops the batches, or keeps the `y` of each; "python" is "drop" with epochs of its own."""
    contender = all_contenders()[job["contender"]]
    contender.import_all()
    wait_for_go()
    started_s = time.perf_counter()
    if job["scenario"] == "python":
        length = job["batches"] * WORKS[job["work"]].batch_size
        feed: Feed = TorchFeed(open_loader("zenith_torch", job["work"], length, persistent_workers=job["persistent"]))
    else:
        feed = contender.open(files)
    kept: list[Any] = []
    ends_s = []
    for epoch in range(job["epochs"]):
        for batch in feed.epoch(epoch):
            if job["scenario"] == "keep-y":
                kept.append(batch[1])
        ends_s.append(time.perf_counter() - started_s)
    kept_bytes = sum(y.numel() * y.element_size() for y in kept)
    return {"epochs": job["epochs"], "epoch_ends_s": ends_s, "kept_mib": kept_bytes / (1 << 20)}
