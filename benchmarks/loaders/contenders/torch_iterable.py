"""torch's DataLoader over an IterableDataset that reads row groups with pyarrow: how most people feed a table that is too large.

Each worker takes every n-th block of a shuffled list of row groups, turns a block into rows, permutes them and yields
finished batches as tensors (`batch_size=None`), which is the fastest form of this pattern: torch neither indexes nor
collates, it only carries tensors between processes. The workers persist, so an epoch after the first starts at once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks.loaders.contender import ROW_BATCH, Contender, Feed
from benchmarks.loaders.data import Files

try:
    from torch.utils.data import IterableDataset
except ImportError:  # The registry is read without torch; the contender then says what it lacks.
    IterableDataset = object  # type: ignore[assignment,misc]


class RowGroups(IterableDataset):  # type: ignore[misc,type-arg]
    """Batches (x f32 [b, 28], y i64 [b]) from the row groups that fall to this worker; a rest is carried to the next block."""

    def __init__(self, path: str, shuffle: bool) -> None:
        self.path, self.shuffle, self.epoch = path, shuffle, 0

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        import pyarrow.parquet as pq
        import torch

        from benchmarks.loaders.rows import to_rows

        info = torch.utils.data.get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        file = pq.ParquetFile(self.path)
        groups = np.arange(file.num_row_groups)
        if self.shuffle:
            np.random.default_rng(self.epoch).shuffle(groups)  # The same list in every worker.
        generator = torch.Generator().manual_seed(self.epoch * 1000 + worker)
        self.epoch += 1
        rest: tuple[Any, Any] | None = None
        for group in groups[worker::workers]:
            x, y = map(torch.from_numpy, to_rows(file.read_row_group(int(group), use_threads=workers == 1)))
            if rest is not None:
                x, y = torch.cat([rest[0], x]), torch.cat([rest[1], y])
            order = torch.randperm(len(y), generator=generator) if self.shuffle else None
            whole = len(y) - len(y) % ROW_BATCH
            for start in range(0, whole, ROW_BATCH):
                yield take(x, y, order, start, start + ROW_BATCH)
            rest = take(x, y, order, whole, len(y))
        if rest is not None and len(rest[1]):
            yield rest


def take(x: Any, y: Any, order: Any, start: int, end: int) -> tuple[Any, Any]:
    """The rows [start, end) of a block in the given order (None: as they are), copied, so that a worker sends only them."""
    if order is None:
        return x[start:end].clone(), y[start:end].clone()
    return x.index_select(0, order[start:end]), y.index_select(0, order[start:end])


@dataclasses.dataclass
class TorchFeed:
    """A torch DataLoader whose batches already are (x, y)."""

    loader: Any

    def epoch(self, epoch: int) -> Iterator[Any]:
        return iter(self.loader)


def open_iterable(path: Callable[[Files], str], shuffle: bool, num_workers: int) -> Callable[[Files], Feed]:
    """Opens the loader with `num_workers` worker processes."""

    def open_feed(files: Files) -> Feed:
        from torch.utils.data import DataLoader

        dataset = RowGroups(path(files), shuffle)
        return TorchFeed(
            DataLoader(dataset, batch_size=None, num_workers=num_workers, persistent_workers=num_workers > 0)
        )

    return open_feed


CONTENDERS = [
    Contender(
        name=f"torch-iterable-{work}-{order}-w{num_workers}",
        title=f"torch IterableDataset over pyarrow, {num_workers} workers",
        work=work,
        order=order,
        open=open_iterable(path, order == "shuffled", num_workers),
        path=path,
        skipped_by_default=num_workers == 0 or work == "parquet-1mi",
    )
    for work, path in (
        ("parquet", lambda files: files.parquet),
        ("parquet-plain", lambda files: files.parquet_plain),
        ("parquet-1mi", lambda files: files.parquet_large_groups),
    )
    for order in ("shuffled", "file")
    for num_workers in (0, 2)
]
