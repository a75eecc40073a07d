"""How soon comes the first batch, after the imports and after a resume, and how many bytes were read for it?"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.loaders.contender import ROW_BATCH, all_contenders
from benchmarks.loaders.data import Files, warm
from benchmarks.loaders.special import verdict, zenith_missing
from benchmarks.loaders.table import FEATURES, LABEL

SHARES = (0.10, 0.50, 0.99)
BARS_MS = {"shuffled": 250.0, "file": 50.0}
PEERS = ("torch-iterable-parquet-shuffled-w2", "hand-written-parquet")


def measure(files: Files, quick: bool) -> dict[str, Any]:
    """Three fresh processes per row (one if quick); medians."""
    from benchmarks.loaders.process import ChildError, run_child

    warm(files.parquet)
    runs = 1 if quick else 3
    rows: list[list[object]] = []
    problems = []

    def add(title: str, job: dict[str, Any], bar_ms: float | None, bar_mib: float | None = None) -> float | None:
        job |= {"mode": "first_batch", "files": files.to_json()}
        try:
            found = [run_child(dict(job)) for _ in range(runs)]
        except ChildError as error:
            problems.append(f"{title}: {error}")
            return None
        first_ms, load_ms, read_mib = (
            float(statistics.median(run[key] for run in found))
            for key in ("first_batch_ms", "load_state_ms", "read_mib")
        )
        of_epoch = [float(run["read_epoch_mib"]) for run in found if run.get("read_epoch_mib") is not None]
        rows.append([title, first_ms, bar_ms, verdict(first_ms, bar_ms), load_ms, read_mib, bar_mib])
        rows[-1] += [verdict(read_mib, bar_mib), statistics.median(of_epoch) if of_epoch else None]
        return read_mib

    for peer in PEERS:
        add(f"{all_contenders()[peer].title}, fresh", {"who": peer}, None)
    if why := zenith_missing():
        problems.append(why)
    else:
        for order, bar_ms in BARS_MS.items():
            fresh_mib = add(f"Zenith, {order}, fresh", {"who": "zenith", "order": order, "state": None}, bar_ms)
            try:
                states = run_child({"mode": "first_batch", "who": "states", "order": order, "files": files.to_json()})[
                    "states"
                ]
            except ChildError as error:
                problems.append(f"states: {error}")
                continue
            for share, state in zip(SHARES, states, strict=True):
                add(
                    f"Zenith, {order}, resumed at {share:.0%}",
                    {"who": "zenith", "order": order, "state": state},
                    bar_ms,
                    fresh_mib,
                )
    result: dict[str, Any] = {
        "title": "First batch, after the imports and after a resume",
        "columns": [
            *("what", "first batch ms", "bar ms", "", "load_state_dict ms"),
            *("read for it MiB", "bar MiB", "", "read in the whole rest of the epoch MiB"),
        ],
        "rows": rows,
    }
    return result | ({"error": "; ".join(problems)} if problems else {})


def child(files: Files, job: dict[str, Any], wait_for_go: Callable[[], None]) -> dict[str, Any]:
    """One row's run, or the states at each of `SHARES`."""
    if job["who"] not in ("zenith", "states"):
        contender = all_contenders()[job["who"]]
        contender.import_all()
        wait_for_go()
        started_s, read_before = time.perf_counter(), bytes_read()
        feed = contender.open(files)
        next(iter(feed.epoch(0)))
        first_batch_ms = (time.perf_counter() - started_s) * 1e3
        # Worker processes have counters of their own, so a peer with workers shows only what this process read.
        read_mib = (bytes_read() - read_before) / (1 << 20)
        return {"first_batch_ms": first_batch_ms, "load_state_ms": 0.0, "read_mib": read_mib}
    import zenith_torch  # noqa: F401

    wait_for_go()
    if job["who"] == "states":
        return {"states": states(open_loader(files, job["order"]), files.size.rows)}
    started_s, read_before = time.perf_counter(), bytes_read()
    loader = open_loader(files, job["order"])
    load_state_s = 0.0
    if job["state"] is not None:
        load_started_s = time.perf_counter()
        loader.load_state_dict(job["state"])
        load_state_s = time.perf_counter() - load_started_s
    batches = iter(loader)
    next(batches)
    first_batch_s, read = time.perf_counter() - started_s, bytes_read() - read_before
    for _ in batches:
        pass
    read_epoch = bytes_read() - read_before
    return {"first_batch_ms": first_batch_s * 1e3, "load_state_ms": load_state_s * 1e3} | {
        "read_mib": read / (1 << 20),
        "read_epoch_mib": read_epoch / (1 << 20),
    }


def open_loader(files: Files, order: str) -> Any:
    """The loader of the rows "Zenith, 2 threads"."""
    import zenith
    from zenith_torch import DataLoader

    dataset = zenith.Parquet(files.parquet, stack={"x": list(FEATURES), "y": LABEL})
    return DataLoader(dataset, batch_size=ROW_BATCH, shuffle=order == "shuffled", num_workers=2, seed=0)


def states(loader: Any, rows: int) -> list[dict[str, Any]]:
    """The loader's states when each of `SHARES` of the rows has been handed out."""
    at_batches = [int(rows * share / ROW_BATCH) for share in SHARES]
    found = []
    for index, _ in enumerate(loader):
        found.extend(loader.state_dict() for wanted in at_batches if wanted == index + 1)
    assert len(found) == len(SHARES), f"{rows} rows are too few for a state at each of {SHARES}"
    return found


def bytes_read() -> int:
    """Bytes that this process's read calls returned, from the page cache or not; nothing for memory maps."""
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields["rchar"])
