"""What a worker is told when it is started, beyond what torch's loop is given."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Setup:
    """Alike for all workers of an iterator."""

    skips: bool = False
    """Samples that raise an exception are left out."""
    listed: frozenset[int | str] = frozenset()
    """Indices that are left out unread."""
