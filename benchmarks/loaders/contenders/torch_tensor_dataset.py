"""torch's DataLoader over a TensorDataset: the whole table in memory, batches collated row by row.

It reads the table into memory when it is opened, which is part of its time to the first batch and of its memory.
"""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.loaders.contender import ROW_BATCH, Contender, Feed
from benchmarks.loaders.contenders.torch_iterable import TorchFeed
from benchmarks.loaders.data import Files


def open_tensors(num_workers: int) -> Callable[[Files], Feed]:
    """Loads the table and opens the loader with `num_workers` worker processes."""

    def open_feed(files: Files) -> Feed:
        import pyarrow.parquet as pq
        import torch
        from torch.utils.data import DataLoader, TensorDataset

        from benchmarks.loaders.rows import to_rows

        x, y = to_rows(pq.read_table(files.parquet))
        dataset = TensorDataset(torch.from_numpy(x), torch.from_numpy(y))
        loader = DataLoader(
            dataset, batch_size=ROW_BATCH, shuffle=True, num_workers=num_workers, persistent_workers=num_workers > 0
        )
        return TorchFeed(loader)

    return open_feed


CONTENDERS = [
    Contender(
        name=f"torch-tensor-dataset-w{num_workers}",
        title=f"torch TensorDataset, {num_workers} workers",
        work="parquet",
        order="shuffled",
        open=open_tensors(num_workers),
        path=lambda files: files.parquet,
    )
    for num_workers in (0, 2)
]
