"""Hugging Face datasets over the same Parquet file, map-style in torch's DataLoader and iterable with a shuffle buffer.

Both use its numpy format and make the tensors afterwards. The Arrow cache that it makes of the file is written beforehand and
is in no figure.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks.loaders.contender import ROW_BATCH, Contender, Feed
from benchmarks.loaders.contenders.torch_iterable import TorchFeed
from benchmarks.loaders.data import Files
from benchmarks.loaders.table import FEATURES, LABEL

SHUFFLE_BUFFER_ROWS = 65_536


def load(files: Files) -> Any:
    """The table as a `datasets.Dataset` over its Arrow cache beside the data."""
    import datasets

    datasets.disable_progress_bars()
    return datasets.Dataset.from_parquet(files.parquet, cache_dir=os.path.join(files.folder, "hf-cache"))


def collate_columns(rows: list[dict[str, Any]]) -> tuple[Any, Any]:
    """Rows of 29 scalars into x f32 [b, 28] and y i64 [b], the cheapest way that was found."""
    import torch

    x = np.array([[row[name] for name in FEATURES] for row in rows], dtype=np.float32)
    return torch.from_numpy(x), torch.tensor([row[LABEL] for row in rows], dtype=torch.int64)


@dataclasses.dataclass
class IterFeed:
    """`IterableDataset.iter(batch_size)` in numpy format, the columns stacked into x."""

    dataset: Any

    def epoch(self, epoch: int) -> Iterator[tuple[Any, Any]]:
        import torch

        self.dataset.set_epoch(epoch)
        for batch in self.dataset.iter(batch_size=ROW_BATCH):
            x = np.stack([batch[name] for name in FEATURES], axis=1)
            yield torch.from_numpy(x), torch.from_numpy(np.ascontiguousarray(batch[LABEL]))


def open_loader(num_workers: int) -> Callable[[Files], Feed]:
    """Opens the map-style dataset in torch's DataLoader; it fetches a whole batch at once through `__getitems__`."""

    def open_feed(files: Files) -> Feed:
        from torch.utils.data import DataLoader

        dataset = load(files).with_format("numpy")
        return TorchFeed(
            DataLoader(
                dataset,
                batch_size=ROW_BATCH,
                shuffle=True,
                collate_fn=collate_columns,
                num_workers=num_workers,
                persistent_workers=num_workers > 0,
            )
        )

    return open_feed


def open_iterable(files: Files) -> Feed:
    """Opens the iterable dataset: shuffled shards and a shuffle buffer."""
    iterable = load(files).with_format("numpy").to_iterable_dataset(num_shards=32)
    return IterFeed(iterable.shuffle(seed=0, buffer_size=SHUFFLE_BUFFER_ROWS))


CONTENDERS = [
    *(
        Contender(
            name=f"hf-datasets-loader-w{num_workers}",
            title=f"HF datasets in torch's DataLoader, {num_workers} workers",
            work="parquet",
            order="shuffled",
            open=open_loader(num_workers),
            path=lambda files: files.parquet,
            requires=("torch", "pyarrow", "datasets"),
            prepare=lambda files: load(files) and None,
        )
        for num_workers in (0, 2)
    ),
    Contender(
        name="hf-datasets-iter",
        title="HF datasets, iterable, shuffle buffer, .iter(4096)",
        work="parquet",
        order="shuffled",
        open=open_iterable,
        path=lambda files: files.parquet,
        requires=("torch", "pyarrow", "datasets"),
        prepare=lambda files: load(files) and None,
    ),
]
