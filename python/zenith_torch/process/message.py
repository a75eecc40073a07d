"""One message per batch: what it is made of, and where its tensors lie in the arena.

A message is a head, the descriptors of its tensors (`ArenaWriter.descriptors`), and what else there is. A tensor, and an
exact list, tuple or dict of tensors, need no pickle for their values; anything else is pickled (protocol 5, torch's
reductions), with plain CPU tensors and large buffers taken out of it. A batch with something that cannot lie in an arena
(tensors of other devices, layouts and types, views of one memory) goes as torch sends it, as a whole: what shares memory is to
share it at the other side too.
"""

from __future__ import annotations

import io
import pickle
import struct
import threading
from collections.abc import Callable
from multiprocessing.reduction import ForkingPickler
from typing import Any, TypeVar

import numpy
import torch
from torch import Tensor
from zenith import _engine
from zenith.errors import ZenithError

from zenith_torch._ops import arena_put, next_batch

Arena = TypeVar("Arena", _engine.ArenaReader, _engine.ArenaWriter)

HEAD = struct.Struct("=IBxxxIq")
"""Length of the message, its kind, length of its descriptors, number of the task."""

_TENSOR, _LIST, _TUPLE, _DICT, _PICKLE, _PICKLE_IN_ARENA = range(6)

_IN_PIPE_MAX = 16 << 10
"""A pickle larger than this lies in the arena: a pipe holds 64 KiB, and a worker is not to wait for its reader."""
_BUFFER_MIN = 4 << 10
"""Buffers smaller than this stay in the pickle."""


def is_plain(value: Any) -> bool:
    """Whether a tensor is nothing but its values. How it lies in memory and its dtype are looked at by `arena_put`."""
    return (
        type(value) is Tensor
        and value.is_cpu
        and value.layout is torch.strided
        and not value.requires_grad
        and not value.is_neg()
    )


class Encoder:
    """Makes messages, in a worker; ``arena`` is ``None`` where there is no shared memory to be had."""

    def __init__(self, arena: _engine.ArenaWriter | None) -> None:
        self._arena = arena

    def encode(self, number: Any, data: Any) -> bytes:
        """Raises what pickling raises."""
        kind = type(data)
        arena = self._arena
        if arena is not None and type(number) is int:
            if kind is Tensor:
                if is_plain(data) and _put(arena, [data]):
                    return self._message(_TENSOR, number)
            elif kind is dict:
                values = list(data.values())
                if values and all(map(is_plain, values)):
                    # First, as it may fail: what lies in the arena is to be sent.
                    keys = pickle.dumps(tuple(data), 5)
                    if _put(arena, values):
                        return self._message(_DICT, number, keys)
            elif (kind is list or kind is tuple) and data and all(map(is_plain, data)) and _put(arena, list(data)):
                return self._message(_LIST if kind is list else _TUPLE, number)
        return self._pickled((number, data))

    def _message(self, kind: int, number: int, rest: bytes = b"") -> bytes:
        descriptors = b"" if self._arena is None else self._arena.descriptors()
        return HEAD.pack(HEAD.size + len(descriptors) + len(rest), kind, len(descriptors), number) + descriptors + rest

    def _pickled(self, item: Any) -> bytes:
        arena = self._arena
        if arena is not None:
            file = io.BytesIO()
            pickler = _Pickler(file)
            try:
                pickler.dump(item)
            except _NotForArenaError:
                return self._as_torch_does(item)
            places = struct.pack(f"={len(pickler.buffers) + 1}I", len(pickler.buffers), *pickler.buffers)
            content = file.getbuffer()
            if len(content) <= _IN_PIPE_MAX:
                if not pickler.taken:
                    return HEAD.pack(HEAD.size + len(places) + len(content), _PICKLE, 0, 0) + places + content
                if _put(arena, pickler.taken):
                    return self._message(_PICKLE, 0, places + content)
            elif _put(arena, [*pickler.taken, torch.frombuffer(content, dtype=torch.uint8)]):
                return self._message(_PICKLE_IN_ARENA, 0, places)
        # No arena, no place in it, or tensors that share memory.
        return self._as_torch_does(item)

    def _as_torch_does(self, item: Any) -> bytes:
        content = ForkingPickler.dumps(item)
        return HEAD.pack(HEAD.size + 4 + len(content), _PICKLE, 0, 0) + struct.pack("=I", 0) + content


def _put(arena: _engine.ArenaWriter, tensors: list[Tensor]) -> bool:
    try:
        return arena_put(arena.id, tensors)
    except NotImplementedError:
        # A nested tensor has no sizes.
        return False


class _NotForArenaError(Exception):
    """There is a tensor that goes as torch sends it."""


def _refuse(_: Any) -> Any:
    raise _NotForArenaError


_SHARED_BY_TORCH = {
    kind: _refuse
    for kind in ForkingPickler(io.BytesIO()).dispatch_table
    if issubclass(kind, (Tensor, torch.UntypedStorage, torch.TypedStorage))
}
"""What torch has reductions for that share memory."""


class _Pickler(ForkingPickler):
    """Takes plain tensors and large buffers out of what it pickles."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, 5, True, self._take_buffer)
        self.taken: list[Tensor] = []
        self.buffers: list[int] = []
        self.dispatch_table.update(_SHARED_BY_TORCH)
        self.dispatch_table[Tensor] = self._take_tensor
        self.dispatch_table[numpy.ndarray] = _reduce_array

    def _take_tensor(self, tensor: Tensor) -> Any:
        if not is_plain(tensor) or not tensor.is_contiguous() or tensor.dtype not in _DTYPES:
            raise _NotForArenaError
        self.taken.append(tensor)
        return _given, (len(self.taken) - 1,)

    def _take_buffer(self, buffer: pickle.PickleBuffer) -> bool:
        try:
            content = buffer.raw()
        except BufferError:
            return True
        if content.readonly or content.nbytes < _BUFFER_MIN:
            return True
        self.buffers.append(len(self.taken))
        self.taken.append(torch.frombuffer(content, dtype=torch.uint8))
        return False


def _reduce_array(array: Any) -> Any:
    """With protocol 5 an array stays read-only, or of foreign byte order; with the one of torch's queue it does not."""
    return array.__reduce_ex__(5 if array.flags.writeable and array.dtype.isnative else pickle.DEFAULT_PROTOCOL)


_DTYPES = frozenset(
    getattr(torch, name)
    for name in (
        *("bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"),
        *("float16", "bfloat16", "float32", "float64"),
    )
)

_reading = threading.local()


def _given(index: int) -> Tensor:
    """In the place of a tensor that was taken out of a pickle."""
    tensor: Tensor = _reading.tensors[index]
    return tensor


class Decoder:
    """Reads the messages of one worker, in the main process."""

    def __init__(self, arena: _engine.ArenaReader | None) -> None:
        self._arena = arena
        self._keys: tuple[bytes, tuple[Any, ...]] = (b"", ())

    def decode(self, message: bytes) -> tuple[Any, Any]:
        """The number of the task and its data. Raises what unpickling raises."""
        _, kind, length, number = HEAD.unpack_from(message)
        end = HEAD.size + length
        tensors: list[Tensor] = []
        if length:
            assert self._arena is not None
            self._arena.load(message[HEAD.size : end])
            tensors, _ = next_batch(self._arena.id, 0)
        if kind == _LIST:
            return number, tensors
        if kind == _DICT:
            return number, dict(zip(self._known_keys(message[end:]), tensors, strict=True))
        if kind == _TENSOR:
            return number, tensors[0]
        if kind == _TUPLE:
            return number, tuple(tensors)
        return self._unpickled(message, end, tensors, kind == _PICKLE_IN_ARENA)

    def _known_keys(self, pickled: bytes) -> tuple[Any, ...]:
        last, keys = self._keys
        if pickled != last:
            keys = pickle.loads(pickled)
            self._keys = pickled, keys
        return keys

    def _unpickled(self, message: bytes, start: int, tensors: list[Tensor], in_arena: bool) -> tuple[Any, Any]:
        (count,) = struct.unpack_from("=I", message, start)
        places = struct.unpack_from(f"={count}I", message, start + 4)
        content: Any = tensors.pop().numpy().data if in_arena else memoryview(message)[start + 4 + 4 * count :]
        outer = getattr(_reading, "tensors", None)
        _reading.tensors = tensors
        try:
            number, data = pickle.loads(content, buffers=[tensors[place].numpy().data for place in places])
        finally:
            _reading.tensors = outer
        return number, data


def arena_of(kind: Callable[[int], Arena], descriptor: int) -> Arena | None:
    """The arena behind a descriptor; ``None`` without one, or where memory cannot be mapped."""
    try:
        return None if descriptor < 0 else kind(descriptor)
    except ZenithError:
        return None
