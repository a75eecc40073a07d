"""The loop that an expert writes by hand, in process: pyarrow's threads, row-major blocks, a permutation.

A background thread reads the next row group with all of pyarrow's threads while the current block is permuted and cut
into batches. It knows nothing of workers, errors or resuming, and shuffles within one row group only: it is the fastest
simple thing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from benchmarks.loaders.contender import ROW_BATCH, Contender, Feed
from benchmarks.loaders.data import Files


@dataclasses.dataclass
class HandWritten:
    """Blocks in shuffled order, rows permuted within a block; `ahead` blocks are read in a background thread (0: none)."""

    path: str
    ahead: int

    def epoch(self, epoch: int) -> Iterator[tuple[Any, Any]]:
        import torch

        generator = torch.Generator().manual_seed(epoch)
        rest: tuple[Any, Any] | None = None
        for x, y in self.blocks(np.random.default_rng(epoch)):
            if rest is not None:
                x, y = torch.cat([rest[0], x]), torch.cat([rest[1], y])
            order = torch.randperm(len(y), generator=generator)
            whole = len(y) - len(y) % ROW_BATCH
            for start in range(0, whole, ROW_BATCH):
                chosen = order[start : start + ROW_BATCH]
                yield x.index_select(0, chosen), y.index_select(0, chosen)
            rest = (x.index_select(0, order[whole:]), y.index_select(0, order[whole:]))
        if rest is not None and len(rest[1]):
            yield rest

    def blocks(self, generator: np.random.Generator) -> Iterator[tuple[Any, Any]]:
        """The row groups as (x f32 [n, 28], y i64 [n]) tensors."""
        import pyarrow.parquet as pq
        import torch

        from benchmarks.loaders.rows import to_rows

        file = pq.ParquetFile(self.path)

        def read(group: int) -> tuple[Any, Any]:
            x, y = to_rows(file.read_row_group(group, use_threads=True))
            return torch.from_numpy(x), torch.from_numpy(y)

        groups = [int(group) for group in generator.permutation(file.num_row_groups)]
        if self.ahead == 0:
            yield from map(read, groups)
            return
        with ThreadPoolExecutor(1) as pool:
            pending = [pool.submit(read, group) for group in groups[: self.ahead]]
            for position in range(len(groups)):
                block = pending.pop(0).result()
                if position + self.ahead < len(groups):
                    pending.append(pool.submit(read, groups[position + self.ahead]))
                yield block


def open_loop(path: Callable[[Files], str], ahead: int) -> Callable[[Files], Feed]:
    """Opens the loop."""
    return lambda files: HandWritten(path(files), ahead)


CONTENDERS = [
    Contender(
        name=f"hand-written-{work}{'' if ahead else '-simple'}",
        title="hand-written loop, read-ahead thread" if ahead else "hand-written loop, no read-ahead",
        work=work,
        order="shuffled",
        open=open_loop(path, ahead),
        path=path,
    )
    for work, path in (("parquet", lambda files: files.parquet), ("parquet-plain", lambda files: files.parquet_plain))
    for ahead in (1, 0)
]
