"""Where zenith-run is meant to differ from torchrun, and by which statement of the contract. An entry that nothing needs fails."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

UNSAID = object()


@dataclass(frozen=True)
class Difference:
    """In `field` of these cases; `ours` is what zenith-run has there, where that is the same for all of them."""

    statement: str
    why: str
    field: str
    cases: tuple[str, ...]
    ours: Any = UNSAID


DIFFERENCES: list[Difference] = []
