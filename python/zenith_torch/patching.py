"""Our loader for code that cannot be edited."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import torch.utils.data

from zenith_torch.loader import DataLoader

_TORCHS = torch.utils.data.DataLoader
_NAME = "DataLoader"

_lock = threading.Lock()
_depth = 0
_patched: list[ModuleType] = []


@contextmanager
def patch() -> Iterator[None]:
    """Lets ``DataLoader`` mean `zenith_torch.DataLoader` wherever torch's was imported under that name, until the end of the block.

    Both ``torch.utils.data.DataLoader`` and the names that modules imported from there are replaced, in this process and in
    every thread of it; modules that are imported inside the block keep what they got. Loaders that were made before stay
    what they are. Blocks may be nested, and threads may have blocks at the same time: the last one to end restores.

    Not replaced: other names (``import ... as Loader``), references inside objects, and subclasses of torch's loader. While
    the block lasts, ``isinstance(loader, torch.utils.data.DataLoader)`` asks for ours, so it is false for torch's own.

    Example:
        >>> with zenith_torch.patch():
        ...     trainer.fit(model)  # makes its own DataLoader
    """
    global _depth
    with _lock:
        _depth += 1
        if _depth == 1:
            _replace()
    try:
        yield
    finally:
        with _lock:
            _depth -= 1
            if _depth == 0:
                _restore()


def _replace() -> None:
    for name, module in list(sys.modules.items()):
        # Asking a module that loads its content when it is asked would import half of the world.
        ours = name.partition(".")[0] == "zenith_torch"
        if not ours and isinstance(module, ModuleType) and vars(module).get(_NAME) is _TORCHS:
            setattr(module, _NAME, DataLoader)
            _patched.append(module)


def _restore() -> None:
    while _patched:
        module = _patched.pop()
        if vars(module).get(_NAME) is DataLoader:
            setattr(module, _NAME, _TORCHS)
