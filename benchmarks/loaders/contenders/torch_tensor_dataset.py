"""A TensorDataset, the whole table in memory: under torch's DataLoader, which collates it row by row, and under Zenith's.

It reads the table into memory when it is opened, which is part of its time to the first batch and of its memory.
"""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.loaders.contender import ROW_BATCH, Contender, Feed
from benchmarks.loaders.contenders.torch_iterable import TorchFeed
from benchmarks.loaders.data import Files


def open_tensors(package: str, num_workers: int) -> Callable[[Files], Feed]:
    """Loads the table and opens the `DataLoader` of `package` with `num_workers` worker processes."""

    def open_feed(files: Files) -> Feed:
        import importlib

        import pyarrow.parquet as pq
        import torch
        from torch.utils.data import TensorDataset

        from benchmarks.loaders.rows import to_rows

        x, y = to_rows(pq.read_table(files.parquet))
        dataset = TensorDataset(torch.from_numpy(x), torch.from_numpy(y))
        loader = importlib.import_module(package).DataLoader(
            dataset, batch_size=ROW_BATCH, shuffle=True, num_workers=num_workers, persistent_workers=num_workers > 0
        )
        return TorchFeed(loader)

    return open_feed


CONTENDERS = [
    Contender(
        name=f"{who}-tensor-dataset-w{num_workers}",
        title=f"{who} TensorDataset, {num_workers} workers",
        work="parquet",
        order="shuffled",
        open=open_tensors(package, num_workers),
        path=lambda files: files.parquet,
        requires=("torch", "pyarrow", package),
    )
    for who, package, num_workers in (
        ("torch", "torch.utils.data", 0),
        ("torch", "torch.utils.data", 2),
        ("zenith", "zenith_torch", 0),
        ("zenith", "zenith_torch", 2),
    )
]
