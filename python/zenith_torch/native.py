"""One epoch read natively: an iterator of batches whose tensors alias the engine's memory."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from threading import get_ident
from typing import TYPE_CHECKING, Any

import torch
from zenith import _engine
from zenith.datasets import FieldInfo
from zenith.errors import InvalidArgumentError, StallError, ZenithError
from zenith.values import varying_values

from zenith_torch import exits
from zenith_torch._ops import BATCH, END, TENSORS, next_batch

if TYPE_CHECKING:
    from zenith_torch.loader import DataLoader
    from zenith_torch.share import Tail

# The wait is cut into pieces so that Ctrl-C is served within this time.
_WAIT_MS = 50


class NativeIter:
    """Iterates one epoch (or the rest of one); ``next()`` hands out batches in the order of the plan."""

    def __init__(
        self,
        loader: DataLoader[Any],
        engine: _engine.Epoch,
        schema: tuple[FieldInfo, ...],
        pin: bool,
        tail: Tail | None = None,
    ) -> None:
        self._done = True
        self._loader = loader
        self._engine = engine
        self._id = engine.id
        self._names = [info.name for info in schema]
        self._schema = None if all(info.kind == "dense" for info in schema) else schema
        self._map_batch: Callable[..., Any] | None = loader.map_batch
        self._as_tuple = loader.output == "tuple"
        self._pin = pin
        self._stall_timeout = loader.stall_timeout
        self._tail = tail
        self._at_end: int | None = None
        self.record: Callable[[int, int], None] | None = None
        """Is told of every batch: the global position at which it begins, and its number of samples."""
        self.key_at: Callable[[int], int] | None = None
        """What ``map_batch`` draws from, where it asks for a key: of the global position at which its batch begins."""
        self._done = False
        self._finishing = threading.Lock()
        self._last_stats: dict[str, Any] = {}

    def __iter__(self) -> NativeIter:
        return self

    def __next__(self) -> Any:
        if get_ident() != exits.MAIN:
            with exits.aside():
                return self._traced_next()
        return self._traced_next()

    def _traced_next(self) -> Any:
        if torch.autograd._profiler_enabled():  # type: ignore[attr-defined]
            with torch.autograd.profiler.record_function("enumerate(DataLoader)#NativeIter.__next__"):
                return self._next()
        return self._next()

    def _next(self) -> Any:
        late_at = None if self._stall_timeout is None else time.monotonic() + self._stall_timeout
        before = 0 if self.record is None and self.key_at is None else self._engine.position
        while not self._done:
            try:
                fields, status = next_batch(self._id, _WAIT_MS)
            except InvalidArgumentError:
                # Another thread that shares this iterator has met the end meanwhile and closed it.
                if self._done:
                    break
                raise
            if status in (BATCH, TENSORS) and self.record is not None:
                is_dense = self._schema is None or self._schema[0].kind == "dense"
                self.record(before, len(fields[0]) - (not is_dense))
            if status == TENSORS:
                return self._deliver(fields, before)
            if status == BATCH:
                return self._deliver(self._pinned(fields) if self._pin else fields, before)
            if status == END:
                last = None if self._tail is None else self._tail.take()
                if self._tail is not None and last is not None:
                    self._at_end = self._tail.end
                    return self._deliver(self._pinned(last) if self._pin else last, before)
                self._finish()
            elif late_at is not None and time.monotonic() >= late_at:
                raise StallError(
                    f"no batch for {self._stall_timeout:g} s: the engine reads or decodes at position {self.position} of the "
                    "epoch. The next next() waits for the batch again. read_timeout_ms bounds single reads and names them"
                )
        raise StopIteration

    def _finish(self) -> None:
        with self._finishing:
            if not self._done:
                self._done = True
                self.close()
                self._loader._epochs.finish(self._loader, self)

    def _deliver(self, fields: list[torch.Tensor], before: int) -> Any:
        values: list[Any] = fields if self._schema is None else _values(self._schema, fields)
        batch: Any = tuple(values) if self._as_tuple else dict(zip(self._names, values, strict=True))
        if self._map_batch is None:
            return batch
        return self._map_batch(batch) if self.key_at is None else self._map_batch(batch, key=self.key_at(before))

    def _pinned(self, parts: list[torch.Tensor]) -> list[torch.Tensor]:
        """The parts in pinned memory, but for those that become Python objects. One that lies there already stays."""
        wanted = [True] * len(parts) if self._schema is None else _is_tensor(self._schema)
        return [part.pin_memory() if pin else part for part, pin in zip(parts, wanted, strict=True)]

    @property
    def position(self) -> int:
        """Global position in samples after the batches handed out so far."""
        return self._engine.position if self._at_end is None else self._at_end

    def stats(self) -> dict[str, Any]:
        """The engine's counters; those of the end once the iterator is closed."""
        counters: dict[str, Any] = self._last_stats or json.loads(self._engine.stats())
        return dict(counters)

    def close(self) -> None:
        """Stops the threads; tensors stay valid."""
        self._last_stats = self.stats()
        self._engine.close()

    def __del__(self) -> None:
        # Left in the midst of an epoch, by `break` say: the loader's state is still that of the batches handed out.
        if not self._done:
            # In a forked child the iterator is the parent's, and so is its place.
            with suppress(ZenithError):
                self._loader._epochs.drop(self._id, self.position)

    def __reduce__(self) -> Any:
        raise NotImplementedError("an iterator under way cannot be pickled; pickle the DataLoader or its state_dict()")


def _is_tensor(schema: tuple[FieldInfo, ...]) -> list[bool]:
    """For each part of a batch whether the user gets it as tensors; the others become Python objects and sizes."""
    parts: dict[str, list[bool]] = {"dense": [True], "jagged": [True, True], "ragged": [False, True]}
    return [part for info in schema for part in parts.get(info.kind, [False, False])]


def _values(schema: tuple[FieldInfo, ...], parts: list[torch.Tensor]) -> list[Any]:
    """Tensors for dense and jagged fields, lists for the others; all but dense ones come as offsets and bytes."""
    values: list[Any] = []
    rest = iter(parts)
    for info in schema:
        part = next(rest)
        if info.kind == "dense":
            values.append(part)
            continue
        content = next(rest)
        if info.kind == "ragged":
            assert info.dtype is not None
            dtype = getattr(torch, info.dtype)
            lengths = (part.diff() // dtype.itemsize).tolist()
            values.append(list(torch.split(content.view(dtype), lengths)))
        elif info.kind == "jagged":
            assert info.dtype is not None
            dtype = getattr(torch, info.dtype)
            values.append(torch.nested.nested_tensor_from_jagged(content.view(dtype), part // dtype.itemsize))
        else:
            values.append(varying_values(info, part.numpy(), content.numpy()))
    return values
