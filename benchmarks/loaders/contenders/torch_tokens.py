"""torch's DataLoader over a map-style dataset of token windows: every window once, shuffled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.loaders.contender import SEQUENCE_LENGTH, TOKEN_BATCH, Contender, Feed
from benchmarks.loaders.contenders.torch_iterable import TorchFeed
from benchmarks.loaders.data import Files


class Windows:
    """Window i is the tokens [1024 i, 1024 i + 1025), as x and y i64 [1024]; the file is mapped once per process."""

    def __init__(self, path: str) -> None:
        self.data = np.memmap(path, dtype=np.uint16, mode="r")

    def __len__(self) -> int:
        return (len(self.data) - 1) // SEQUENCE_LENGTH

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        import torch

        start = index * SEQUENCE_LENGTH
        window = torch.from_numpy(self.data[start : start + SEQUENCE_LENGTH + 1].astype(np.int64))
        return window[:-1], window[1:]


def open_windows(num_workers: int) -> Callable[[Files], Feed]:
    """Opens the loader with `num_workers` worker processes."""

    def open_feed(files: Files) -> Feed:
        from torch.utils.data import DataLoader

        dataset: Any = Windows(files.token_file)
        return TorchFeed(
            DataLoader(
                dataset,
                batch_size=TOKEN_BATCH,
                shuffle=True,
                num_workers=num_workers,
                persistent_workers=num_workers > 0,
            )
        )

    return open_feed


CONTENDERS = [
    Contender(
        name=f"torch-tokens-w{num_workers}",
        title=f"torch map-style windows, {num_workers} workers",
        work="tokens",
        order="shuffled",
        open=open_windows(num_workers),
        path=lambda files: files.token_file,
        requires=("torch",),
    )
    for num_workers in (0, 2)
]
