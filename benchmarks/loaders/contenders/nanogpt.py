"""nanoGPT's get_batch: random windows out of a memory map, stacked. Ref karpathy/nanoGPT:train.py."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.loaders.contender import SEQUENCE_LENGTH, TOKEN_BATCH, Contender


@dataclasses.dataclass
class GetBatch:
    """Batches (x, y), i64 [16, 1024] each, as the original makes them, a fresh memory map per batch included or not."""

    path: str
    map_per_batch: bool
    """The original maps the file anew for each batch, against a leak of np.memmap."""

    def epoch(self, epoch: int) -> Iterator[tuple[Any, Any]]:
        import torch

        torch.manual_seed(epoch)
        data = np.memmap(self.path, dtype=np.uint16, mode="r")
        while True:
            if self.map_per_batch:
                data = np.memmap(self.path, dtype=np.uint16, mode="r")
            ix = torch.randint(len(data) - SEQUENCE_LENGTH, (TOKEN_BATCH,))
            x = torch.stack([torch.from_numpy((data[i : i + SEQUENCE_LENGTH]).astype(np.int64)) for i in ix])
            y = torch.stack([torch.from_numpy((data[i + 1 : i + 1 + SEQUENCE_LENGTH]).astype(np.int64)) for i in ix])
            yield x, y


CONTENDERS = [
    Contender(
        name=f"nanogpt-get-batch{'' if map_per_batch else '-one-map'}",
        title="nanoGPT get_batch" + ("" if map_per_batch else ", mapped once"),
        work="tokens",
        order="random",
        open=lambda files, map_per_batch=map_per_batch: GetBatch(files.token_file, map_per_batch),  # type: ignore[misc]
        path=lambda files: files.token_file,
        requires=("torch",),
    )
    for map_per_batch in (True, False)
]
