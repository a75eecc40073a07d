"""What does a loader hold? Its peak against torch's, its growth over 20 epochs, and the price of keeping every `y`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from benchmarks.loaders.contender import all_contenders
from benchmarks.loaders.data import Files
from benchmarks.loaders.special import zenith_missing

PEAKS: tuple[str, ...] = (
    "torch-iterable-parquet-shuffled-w2",
    "zenith-parquet-shuffled-w2",
    "zenith-parquet-1mi-shuffled-w2",
    "zenith-arrow-ipc-one-batch-shuffled-w2",
)
PEAK_BAR_OF_TORCH = 0.75
EPOCHS = 20


def measure(files: Files, quick: bool) -> dict[str, Any]:
    """Fresh processes, sampled from outside every 10 ms."""
    from benchmarks.loaders.process import ChildError, run_child

    rows: list[list[object]] = []
    problems = []
    why = zenith_missing()
    torch_mib: float | None = None

    def sampled(scenario: str, name: str, epochs: int) -> dict[str, Any] | None:
        job = {
            "mode": "memory_scenario",
            "scenario": scenario,
            "contender": name,
            "epochs": epochs,
            "files": files.to_json(),
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
            rows.append([f"peak, 2 epochs: {name}", found["peak_mib"], bar])
    if why:
        problems.append(why)
    else:
        name = "zenith-parquet-shuffled-w2"
        if (found := sampled("drop", name, 4 if quick else EPOCHS)) is not None:
            rows.append([f"growth of the peak from epoch 3 to {found['epochs']}: {name}", growth_mib(found), 8.0])
        if (found := sampled("keep-y", name, 1)) is not None:
            rows.append([f"keeping every y of an epoch, peak: {name}", found["peak_mib"], None])
            rows.append(["… of which y is", found["kept_mib"], None])
    result: dict[str, Any] = {
        "title": "Memory beyond the imports (anonymous + shared, whole process tree)",
        "columns": ["what", "MiB", "bar MiB"],
        "rows": rows,
    }
    return result | ({"error": "; ".join(problems)} if problems else {})


def growth_mib(found: dict[str, Any]) -> float:
    """The largest sample of the last quarter of the epochs less that of the third epoch, in MiB.

    The first two epochs warm the allocator and are not growth.
    """
    ends_s: list[float] = found["epoch_ends_s"]
    quarter = ends_s[-max(2, len(ends_s) // 4) - 1] if len(ends_s) > 4 else ends_s[-2]
    early = [size for at_s, size in found["memory_samples"] if ends_s[1] < at_s <= ends_s[2]]
    late = [size for at_s, size in found["memory_samples"] if quarter < at_s <= ends_s[-1]]
    return (max(late, default=0) - max(early, default=0)) / (1 << 20)


def child(files: Files, job: dict[str, Any], wait_for_go: Callable[[], None]) -> dict[str, Any]:
    """Takes epochs and drops the batches, or keeps the `y` of each."""
    contender = all_contenders()[job["contender"]]
    contender.import_all()
    wait_for_go()
    started_s = time.perf_counter()
    feed = contender.open(files)
    kept: list[Any] = []
    ends_s = []
    for epoch in range(job["epochs"]):
        for _, y in feed.epoch(epoch):
            if job["scenario"] == "keep-y":
                kept.append(y)
        ends_s.append(time.perf_counter() - started_s)
    kept_bytes = sum(y.numel() * y.element_size() for y in kept)
    return {"epochs": job["epochs"], "epoch_ends_s": ends_s, "kept_mib": kept_bytes / (1 << 20)}
