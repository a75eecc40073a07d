"""What a worker is told when it is started, beyond what torch's loop is given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Setup:
    """Alike for all workers of an iterator, but for ``start``."""

    skips: bool = False
    """Samples that raise an exception are left out."""
    listed: frozenset[int | str] = frozenset()
    """Indices that are left out unread."""
    every: int | None = None
    """Batches between two states that are sent along (iterable datasets; others send one whenever it has changed);
    ``None``: nobody has asked for states."""
    start: dict[str, Any] | None = None
    """The state that the worker's next epoch begins with."""
