"""The ratios that Zenith must reach, each from figures of one run; and how a ratio is made."""

from __future__ import annotations

import statistics
from collections.abc import Collection
from typing import Any

from benchmarks.loaders.bar import Bar
from benchmarks.loaders.picture_bars import picture_bars
from benchmarks.loaders.python_datasets import WORKS


def shuffled(work: str) -> tuple[str, ...]:
    """Zenith with two threads, shuffled."""
    return (f"zenith-{work}-shuffled-w2",)


BARS: tuple[Bar, ...] = (
    *(
        bar
        for work in ("parquet", "parquet-plain")
        for bar in (
            Bar(
                f"{work}, shuffled ÷ torch with 2 workers", shuffled(work), (f"torch-iterable-{work}-shuffled-w2",), 3.5
            ),
            Bar(
                f"{work}, shuffled ÷ hand-written loop",
                shuffled(work),
                (f"hand-written-{work}", f"hand-written-{work}-simple"),
                1.4,
            ),
            Bar(
                f"{work}, shuffled ÷ bare pyarrow scan",
                shuffled(work),
                (f"pyarrow-dataset-scan-{work}", f"pyarrow-file-scan-{work}"),
                0.8,
            ),
        )
    ),
    Bar(
        "TensorDataset ÷ torch's best of 0 and 2 workers",
        ("zenith-tensor-dataset-w0",),
        ("torch-tensor-dataset-w0", "torch-tensor-dataset-w2"),
        10.0,
    ),
    Bar(
        "TensorDataset with 2 workers ÷ torch with 2 workers",
        ("zenith-tensor-dataset-w2",),
        ("torch-tensor-dataset-w2",),
        10.0,
    ),
    *(
        Bar(
            f"{work} ({entry.title}), 2 workers ÷ torch with 2 workers",
            (f"zenith-{work}-w2",),
            (f"torch-{work}-w2",),
            entry.bar,
        )
        for work, entry in WORKS.items()
    ),
    Bar("Arrow IPC ÷ Parquet, both Zenith, shuffled", shuffled("arrow-ipc"), shuffled("parquet"), 2.0),
    Bar("CSV ÷ pyarrow's reader", ("zenith-csv-file-w2",), ("pyarrow-csv-whole", "pyarrow-csv-stream"), 0.8),
    Bar(
        "tokens, random windows ÷ nanoGPT get_batch",
        ("zenith-tokens-random-w1", "zenith-tokens-random-w2"),
        ("nanogpt-get-batch", "nanogpt-get-batch-one-map"),
        10.0,
    ),
    *(
        Bar(
            f"memory: {work} ÷ torch with 2 workers",
            shuffled(work),
            (f"torch-iterable-{theirs}-shuffled-w2",),
            0.75,
            "peak_mib",
            True,
        )
        for work, theirs in (
            ("parquet", "parquet"),
            ("parquet-plain", "parquet-plain"),
            ("parquet-1mi", "parquet"),
            ("arrow-ipc-one-batch", "parquet"),
        )
    ),
    *(
        Bar(
            f"{more} threads ÷ {fewer}: parquet, shuffled",
            (f"zenith-parquet-shuffled-w{more}",),
            (f"zenith-parquet-shuffled-w{fewer}",),
            0.95,
        )
        for fewer, more in ((0, 1), (1, 2), (2, 4))
    ),
    *picture_bars(),
    Bar(
        "JAX, 8 devices ÷ the best of Grain, tf.data and torch + DLPack",
        ("zenith-jax-parquet-8",),
        tuple(f"{peer}-jax-parquet-8" for peer in ("grain-t2", "grain-w2", "tensorflow-t2", "torch-w2")),
        3.0,
    ),
    Bar("JAX, 8 devices ÷ hand-written loop", ("zenith-jax-parquet-8",), ("hand-written-jax-parquet-8",), 1.5),
    Bar(
        "JAX, 8 devices ÷ bare pyarrow scan",
        ("zenith-jax-parquet-8",),
        ("pyarrow-dataset-scan-jax-parquet-8", "pyarrow-file-scan-jax-parquet-8"),
        0.6,
    ),
)


def ratios(bar: Bar, runs: list[dict[str, Any]]) -> list[float]:
    """The bar's ratio in every round in which both sides have a figure."""
    best = min if bar.at_most else max
    found = []
    for round_index in sorted({run["round"] for run in runs}):
        of_round = {
            run["contender"]: run[bar.figure]
            for run in runs
            if run["round"] == round_index and run[bar.figure] is not None
        }
        ours = [of_round[name] for name in bar.ours if name in of_round]
        theirs = [of_round[name] for name in bar.theirs if name in of_round]
        if ours and theirs and best(theirs) > 0:
            found.append(best(ours) / best(theirs))
    return found


def verdicts(runs: list[dict[str, Any]]) -> list[tuple[Bar, float, float, float, bool]]:
    """(bar, median, least, greatest, met) for every bar that this run can judge."""
    judged = []
    for bar in BARS:
        found = ratios(bar, runs)
        if found:
            median = statistics.median(found)
            judged.append(
                (bar, median, min(found), max(found), median <= bar.bound if bar.at_most else median >= bar.bound)
            )
    return judged


def not_judged(chosen: Collection[str], runs: list[dict[str, Any]]) -> list[Bar]:
    """The bars that this run was to judge, because contenders of both sides were chosen, and for which it has no figures."""
    return [
        bar
        for bar in BARS
        if not ratios(bar, runs)
        and any(name in chosen for name in bar.ours)
        and any(name in chosen for name in bar.theirs)
    ]
