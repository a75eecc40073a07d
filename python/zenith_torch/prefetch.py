"""How many batches workers may be at, where what waits for the consumer is bounded in bytes."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy
import torch

_RECENT = 16
"""The largest of so many batches is what the next ones are taken to be: sizes may vary, and change."""

_OBJECT_BYTES = 64
"""About what a small Python object takes."""


class ByteBound:
    """Turns a bound in bytes into one in batches, by the batches that have come."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._recent: deque[int] = deque(maxlen=_RECENT)

    def note(self, batch: Any) -> None:
        """A batch has come."""
        self._recent.append(max(1, bytes_of(batch)))

    def room(self, workers: int, most: int) -> int:
        """Batches that may be under way or waiting: one per worker always, ``most`` at most."""
        if not self._recent:
            return workers
        return max(workers, min(most, self._bytes_max // max(self._recent)))


def bytes_of(batch: Any) -> int:
    """About the memory that a batch takes."""
    if isinstance(batch, (torch.Tensor, numpy.ndarray)):
        return batch.nbytes
    if isinstance(batch, (str, bytes)):
        return len(batch)
    if isinstance(batch, Mapping):
        return sum(map(bytes_of, batch.values()))
    if isinstance(batch, (list, tuple)):
        return sum(map(bytes_of, batch))
    return _OBJECT_BYTES
