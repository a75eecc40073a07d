"""Zenith over Parquet, Arrow IPC and CSV: the documented three lines, whatever the file."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.loaders.contender import ROW_BATCH, Contender, Feed
from benchmarks.loaders.data import Files
from benchmarks.loaders.table import FEATURES, LABEL


@dataclasses.dataclass
class ZenithFeed:
    """A `zenith_torch.DataLoader`, which counts its epochs itself."""

    loader: Any

    def epoch(self, epoch: int) -> Iterator[Any]:
        return iter(self.loader)


def open_table(kind: str, path: Callable[[Files], str], shuffle: bool, num_workers: int) -> Callable[[Files], Feed]:
    """Opens the table with `zenith.<kind>`, shuffled or not, with `num_workers` decode threads."""

    def open_feed(files: Files) -> Feed:
        import zenith
        from zenith_torch import DataLoader

        # CSV does not say that its numbers are f32.
        dtypes = {"x": "float32"} if kind == "Csv" else None
        dataset = getattr(zenith, kind)(path(files), stack={"x": list(FEATURES), "y": LABEL}, dtypes=dtypes)
        return ZenithFeed(
            DataLoader(dataset, batch_size=ROW_BATCH, shuffle=shuffle, num_workers=num_workers, seed=0, output="tuple")
        )

    return open_feed


def contender(
    work: str, kind: str, path: Callable[[Files], str], shuffle: bool, num_workers: int, extra: bool
) -> Contender:
    """One row: `zenith-<work>-<shuffled|file>-w<threads>`."""
    order = "shuffled" if shuffle else "file"
    return Contender(
        name=f"zenith-{work}-{order}-w{num_workers}",
        title=f"Zenith, {num_workers} threads",
        work=work,
        order=order,
        open=open_table(kind, path, shuffle, num_workers),
        path=path,
        requires=("torch", "zenith", "zenith_torch"),
        skipped_by_default=extra,
    )


FORMATS: tuple[tuple[str, str, Callable[[Files], str]], ...] = (
    ("parquet", "Parquet", lambda files: files.parquet),
    ("parquet-plain", "Parquet", lambda files: files.parquet_plain),
    ("parquet-1mi", "Parquet", lambda files: files.parquet_large_groups),
    ("arrow-ipc", "ArrowIpc", lambda files: files.ipc),
    ("arrow-ipc-one-batch", "ArrowIpc", lambda files: files.ipc_one_batch),
    ("csv", "Csv", lambda files: files.csv),
)

CONTENDERS = [
    contender(work, kind, path, shuffle, num_workers, extra=work != "parquet" and num_workers != 2)
    for work, kind, path in FORMATS
    for shuffle in (True, False)
    for num_workers in (0, 1, 2, 4)
]
