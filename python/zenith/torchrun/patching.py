"""Our launcher for libraries that call torch's."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import ModuleType, TracebackType
from typing import Any

from zenith.torchrun import launching, originals

_NAME = "run"

_lock = threading.Lock()
_depth = 0


def patch() -> Patch:
    """Lets ``torch.distributed.run`` launch by `zenith-run` from now on, or, as a context manager, until the end of a block.

    ``torch.distributed.run.run`` is replaced, there and wherever it was imported under that name, such as
    ``torch.distributed.launch``. ``torch.distributed.run.main`` stays torch's, and calls ours: arguments, their errors and
    ``@record`` are as they were. Accelerate's and Lightning Fabric's commands come this way. Not replaced: ``elastic_launch``,
    which runs functions (Accelerate's ``notebook_launcher``), and the command ``torchrun`` (``zenith-run --install-alias``).

    For commands that cannot be edited: ``python -m zenith.torchrun.patched accelerate launch train.py``.

    Example:
        >>> with zenith.torchrun.patch():
        ...     accelerate.commands.launch.launch_command(args)
    """
    return Patch()


class Patch:
    """Ours in the place of torch's, until `undo` or the end of a ``with`` block. Several may overlap: the last one restores."""

    def __init__(self) -> None:
        global _depth
        with _lock:
            _depth += 1
            if _depth == 1:
                _replace()
        self._is_on = True

    def undo(self) -> None:
        """torch's own is back, unless another patch lasts."""
        global _depth
        with _lock:
            if not self._is_on:
                return
            self._is_on = False
            _depth -= 1
            if _depth == 0:
                _restore()

    def __enter__(self) -> Patch:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, traceback: TracebackType | None) -> None:
        self.undo()


def _replace() -> None:
    theirs = originals.original()
    originals.keep(theirs)
    _put(launching.run, theirs)


def _restore() -> None:
    theirs = originals.original()
    originals.keep(None)
    # Also in modules that were imported in between, and got ours.
    _put(theirs, launching.run)


def _put(new: Callable[..., Any], old: Callable[..., Any]) -> None:
    for name, module in list(sys.modules.items()):
        # Asking a module that loads its content when it is asked would import half of the world.
        is_ours = name.startswith("zenith.")
        if not is_ours and isinstance(module, ModuleType) and vars(module).get(_NAME) is old:
            setattr(module, _NAME, new)
