"""Torch's default collation in a worker, for exact types, into memory that needs no further copy.

What a worker of torch does is done: tensors are stacked with ``out=``, so types and errors are those of DL-57. Anything that
is not of an exact type known here goes to torch's ``default_collate``, and so does everything once its map was changed for
one of these types.
"""

from __future__ import annotations

from array import array
from typing import Any

import numpy
import torch
from torch import Tensor
from torch.utils.data import default_collate
from zenith import _engine

from zenith_torch._ops import next_batch
from zenith_torch.collation import Shipped

_is_shipped = Shipped(torch.empty(0), numpy.empty(0), 0, 0.0, "", b"", {}, (), [])
"""Of all exact types that are known here."""

_DIRECT_BYTES_MIN = 64 << 10
"""From this size on a tensor is made in the arena; smaller ones are copied there, all in one call."""


class Collate:
    """A function on a list of samples, as ``collate_fn``."""

    def __init__(self, arena: _engine.ArenaWriter | None) -> None:
        self._arena = arena

    def __call__(self, batch: Any) -> Any:
        if type(batch) is not list or not batch or not _is_shipped():
            return default_collate(batch)
        return self._collate(batch)

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """A tensor of unspecified content, in the arena where that saves a copy."""
        arena, count = self._arena, dtype.itemsize
        for extent in shape:
            count *= extent
        if arena is not None and count >= _DIRECT_BYTES_MIN and arena.request(str(dtype).removeprefix("torch."), shape):
            return next_batch(arena.id, 0)[0][0]
        return torch.empty(shape, dtype=dtype)

    def _collate(self, batch: Any) -> Any:
        first = batch[0]
        kind = type(first)
        if kind is Tensor:
            if first.layout is not torch.strided or not first.is_cpu or first.is_nested:
                return default_collate(batch)
            try:
                return torch.stack(batch, 0, out=self.empty((len(batch), *first.shape), first.dtype))
            except Exception:
                # Torch's path has its own words for it.
                return default_collate(batch)
        if kind is int or kind is float:
            return _numbers(batch, kind)
        if kind is str or kind is bytes:
            return batch
        if kind is dict:
            return {key: self._collate([sample[key] for sample in batch]) for key in first}
        columns = _engine.columns(batch) if kind is tuple and type(batch) is list else None
        if columns is not None:
            return [self._column(code, values) for code, values in columns]
        if kind is tuple or kind is list:
            if set(map(type, batch)) == {kind} and len(set(map(len, batch))) == 1:
                return [self._collate(column) for column in zip(*batch, strict=True)]
            return default_collate(batch)
        if kind is numpy.ndarray and first.dtype.kind in "biufc":
            return self._collate([torch.as_tensor(sample) for sample in batch])
        return default_collate(batch)

    def _column(self, code: str, values: Any) -> Any:
        if not code:
            return self._collate(values)
        return torch.frombuffer(values, dtype=torch.int64 if code == "q" else torch.float64)


def _numbers(batch: Any, kind: type) -> Tensor:
    """What ``torch.tensor`` makes of them, several times as fast where all are of one kind."""
    if set(map(type, batch)) == {kind}:
        try:
            if kind is int:
                return torch.frombuffer(array("q", batch), dtype=torch.int64)
            return torch.frombuffer(array("d", batch), dtype=torch.float64)
        except OverflowError:
            pass
    return default_collate(batch)  # type: ignore[no-any-return]
