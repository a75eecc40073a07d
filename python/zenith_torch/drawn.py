"""Notices which of the process's generators were drawn from: at every batch, so for much less than their states cost.

Python's and numpy's generators take 10 to 30 µs to give their state. Their words are read where they lie instead, after it was
seen that they do lie there; where they do not, the state is asked for.
"""

from __future__ import annotations

import ctypes
import random
import sys
from array import array
from typing import Any

import torch

_WORDS = 624
"""Of the Mersenne twister, in Python as in numpy."""

_INT_BYTES = 4


class Drawn:
    """What the generators were in when they were looked at last."""

    def __init__(self) -> None:
        self._python_at = _python_address()
        self._seen: dict[str, Any] = {}
        self.look()

    def look(self) -> list[str]:
        """The names of those that are in another state than at the last look."""
        changed = []
        for name, now in (("torch", _torch()), ("python", self._python()), ("numpy", self._numpy())):
            if self._seen.get(name) != now:
                self._seen[name] = now
                changed.append(name)
        return changed

    def _python(self) -> Any:
        if self._python_at is None:
            return random.getstate()
        words = ctypes.string_at(self._python_at, (1 + _WORDS) * _INT_BYTES)
        return words, random._inst.gauss_next  # type: ignore[attr-defined]

    def _numpy(self) -> Any:
        numpy = sys.modules.get("numpy")
        if numpy is None:
            return None
        bits = numpy.random.mtrand._rand._bit_generator
        before = self._seen.get("numpy")
        words = None
        if type(bits) is numpy.random.MT19937:
            words = ctypes.string_at(bits.ctypes.state_address, (_WORDS + 1) * _INT_BYTES)
            # A normal number kept for the next call is used up without a word being drawn; to see that, it is asked for.
            if before is not None and before[0] == words and not before[1]:
                return before
        state = numpy.random.get_state(legacy=False)
        return words, state.get("has_gauss"), state.get("gauss"), None if words is not None else repr(state)


def _torch() -> bytes:
    return torch.default_generator.get_state().numpy().tobytes()


def _python_address() -> int | None:
    """Where Python's generator has its index and words, which follow the head of the object; ``None``: elsewhere."""
    generator: Any = random._inst
    address = id(generator) + object.__basicsize__
    size = (1 + _WORDS) * _INT_BYTES
    if type(generator) is not random.Random or random.Random.__basicsize__ < object.__basicsize__ + size:
        return None
    found = array("I", ctypes.string_at(address, size))
    words = random.getstate()[1]
    return address if (*found[1:], found[0]) == words else None
