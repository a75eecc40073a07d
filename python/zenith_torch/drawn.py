"""Notices which of the process's generators were drawn from: at every batch, so for much less than their states cost.

A generator takes 1 to 30 µs to give its state. Its memory is looked at instead, after it was seen that its state does lie
there; where it does not, the state is asked for. All three are Mersenne twisters of 624 words, which are made anew together:
the place among them and the next 15 or 16 tell two states apart (by chance those are equal once in 2^480).
"""

from __future__ import annotations

import ctypes
import pickle
import random
import struct
import sys
from typing import Any

import torch

_WORDS = 624
_WORD_BYTES = 4
_GLANCE_BYTES = 64

_TORCH_STATE = struct.Struct(f"=QiiQ{_WORDS}Q")
"""How `torch.Generator.get_state` begins: seed, words left, whether it is seeded, place, words."""
_TORCH_NORMALS = struct.Struct("=ixxxxf?xxx")
"""How it ends: whether there is a normal f64 for the next call, the f32, and whether that is one."""
_TORCH_HEAD = struct.Struct("=Qi?xxxI")
_TORCH_ENGINE = struct.Struct(f"{_TORCH_HEAD.format}{_WORDS}Ixxxx")
"""The same in memory, which two optionals follow. The seed may differ: the engine keeps 32 bits of it."""
_TORCH_OPTIONALS = struct.Struct("=f?xxxd?xxxxxxx")
_NUMPY_NORMAL = struct.Struct("=Qixxxxd")
"""A pointer, whether there is a normal number for the next call, and which."""
_TORCH_HEAD_BYTES = 256
"""The engine begins before; torch 2.13 has it at 80."""


class Drawn:
    """What the generators were in when they were looked at last."""

    def __init__(self) -> None:
        self._python_memory = _python_memory()
        self._torch_memory = _torch_memory()
        self._numpy_memory: tuple[Any, _Memory | None] = (None, None)
        self._seen: dict[str, Any] = {}
        self.look()

    def look(self) -> list[str]:
        """The names of those that are in another state than at the last look."""
        changed = []
        for name, now in (("torch", self._torch()), ("python", self._python()), ("numpy", self._numpy())):
            if self._seen.get(name) != now:
                self._seen[name] = now
                changed.append(name)
        return changed

    def _torch(self) -> Any:
        memory = self._torch_memory
        return torch.default_generator.get_state().numpy().tobytes() if memory is None else memory.glance()

    def _python(self) -> Any:
        memory = self._python_memory
        if memory is None:
            return random.getstate()
        return memory.glance(), random._inst.gauss_next  # type: ignore[attr-defined]

    def _numpy(self) -> Any:
        numpy = sys.modules.get("numpy")
        if numpy is None:
            return None
        shared = numpy.random.mtrand._rand
        bits = shared._bit_generator
        if self._numpy_memory[0] is not bits:
            self._numpy_memory = bits, _numpy_memory(shared, bits)
        memory = self._numpy_memory[1]
        return pickle.dumps(numpy.random.get_state(legacy=False)) if memory is None else memory.glance()


class _Memory:
    """Pieces of memory that are looked at together."""

    def __init__(self, *pieces: tuple[int, int]) -> None:
        self._pieces = [(ctypes.c_ubyte * size).from_address(address) for address, size in pieces]

    def glance(self) -> bytes:
        return b"".join(self._pieces)


def _python_memory() -> _Memory | None:
    """Python's generator has its place and its words, which follow the head of the object."""
    generator: Any = random._inst
    address = id(generator) + object.__basicsize__
    size = (1 + _WORDS) * _WORD_BYTES
    if type(generator) is not random.Random or random.Random.__basicsize__ < object.__basicsize__ + size:
        return None
    found = struct.unpack(f"={1 + _WORDS}I", ctypes.string_at(address, size))
    words = random.getstate()[1]
    return _Memory((address, _WORD_BYTES + _GLANCE_BYTES)) if (*found[1:], found[0]) == words else None


def _numpy_memory(shared: Any, bits: Any) -> _Memory | None:
    """Numpy tells the address of its words, which its place follows. The normal number that is kept for the next call lies in
    the `RandomState`, behind a pointer to another part of that."""
    if type(bits).__name__ != "MT19937":
        return None
    address, size = bits.ctypes.state_address, (_WORDS + 1) * _WORD_BYTES
    state = shared.get_state(legacy=False)
    if struct.unpack(f"={_WORDS + 1}I", ctypes.string_at(address, size)) != (
        *state["state"]["key"],
        state["state"]["pos"],
    ):
        return None
    start, end = id(shared), id(shared) + type(shared).__basicsize__
    for at in range(start, end - _NUMPY_NORMAL.size + 1, 8):
        pointer, has_normal, normal = _NUMPY_NORMAL.unpack(ctypes.string_at(at, _NUMPY_NORMAL.size))
        if not start < pointer <= end - struct.calcsize("=Q") or (has_normal, normal) != (
            state["has_gauss"],
            state["gauss"],
        ):
            continue
        if ctypes.c_uint64.from_address(pointer).value == address:
            return _Memory((address + size - _GLANCE_BYTES, _GLANCE_BYTES), (at, _NUMPY_NORMAL.size))
    return None


def _torch_memory() -> _Memory | None:
    """Torch's has them within its object, and behind them the normal numbers that are kept for the next call."""
    state = torch.default_generator.get_state().numpy().tobytes()
    start = getattr(torch.default_generator, "_cdata", None)
    if start is None or len(state) < _TORCH_STATE.size + _TORCH_NORMALS.size:
        return None
    _, *known = _TORCH_STATE.unpack_from(state)
    has_double, _, has_float = _TORCH_NORMALS.unpack_from(state, len(state) - _TORCH_NORMALS.size)
    for address in range(start, start + _TORCH_HEAD_BYTES, 8):
        # What is before the words first: the object ends somewhere behind them.
        _, *head = _TORCH_HEAD.unpack(ctypes.string_at(address, _TORCH_HEAD.size))
        if head != known[: len(head)]:
            continue
        _, *found = _TORCH_ENGINE.unpack(ctypes.string_at(address, _TORCH_ENGINE.size))
        end = address + _TORCH_ENGINE.size
        _, keeps_float, _, keeps_double = _TORCH_OPTIONALS.unpack(ctypes.string_at(end, _TORCH_OPTIONALS.size))
        if (found, keeps_float, keeps_double) == (known, has_float, bool(has_double)):
            return _Memory((address, _TORCH_HEAD.size + _GLANCE_BYTES), (end, _TORCH_OPTIONALS.size))
    return None
