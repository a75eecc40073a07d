"""torch's DataLoader over the same files, in the form that is fastest there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info

from examples.demo.data import FEATURES, LABEL


class Windows(Dataset[dict[str, torch.Tensor]]):
    """Window i of a u16 file: x and y, i64 [sequence_length], y one token later."""

    def __init__(self, path: str, sequence_length: int) -> None:
        self.tokens = np.memmap(path, np.uint16, mode="r")
        self.sequence_length = sequence_length

    def __len__(self) -> int:
        return (len(self.tokens) - 1) // self.sequence_length

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        start = index * self.sequence_length
        window = torch.from_numpy(self.tokens[start : start + self.sequence_length + 1].astype(np.int64))
        return {"x": window[:-1], "y": window[1:]}


class RowGroups(IterableDataset[dict[str, torch.Tensor]]):
    """Whole batches from shuffled row groups, rows permuted within each: x f32 [b, 28], y i64 [b].

    Rows that do not fill a batch at a row group's end make a smaller one.
    """

    def __init__(self, path: str, batch_rows: int) -> None:
        self.path, self.batch_rows = path, batch_rows

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        import pyarrow.parquet as pq

        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        file = pq.ParquetFile(self.path)
        for group in np.random.default_rng(0).permutation(file.num_row_groups)[worker::workers]:
            table = file.read_row_group(int(group), columns=[*FEATURES, LABEL], use_threads=workers == 1)
            block = np.empty((table.num_rows, len(FEATURES)), np.float32)
            for index, name in enumerate(FEATURES):
                block[:, index] = table.column(name).to_numpy()
            x, y = torch.from_numpy(block), torch.from_numpy(table.column(LABEL).to_numpy().copy())
            for chosen in torch.randperm(len(y)).split(self.batch_rows):
                yield {"x": x.index_select(0, chosen), "y": y.index_select(0, chosen)}


def token_loader(path: str, sequence_length: int, batch_size: int, num_workers: int) -> Any:
    """Every window once, shuffled."""
    return DataLoader(
        Windows(path, sequence_length),
        batch_size=batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
    )


def table_loader(path: str, batch_rows: int, num_workers: int) -> Any:
    """Batches made in the dataset, so that torch neither indexes nor collates rows."""
    return DataLoader(
        RowGroups(path, batch_rows), batch_size=None, num_workers=num_workers, persistent_workers=num_workers > 0
    )
