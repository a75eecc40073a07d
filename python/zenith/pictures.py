"""What the transforms of pictures are to datasets: anything that describes itself."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Describes(Protocol):
    """A transform that the engine knows: ``zenith.transforms`` has them."""

    def to_json(self) -> Any:
        """What it does: JSON as text, or what ``json.dumps`` would write."""


def is_transforms(given: Any) -> bool:
    """Whether this is a transform, or a list of them."""
    if isinstance(given, type):
        return False
    if isinstance(given, Sequence) and not isinstance(given, (str, bytes)):
        return bool(given) and all(is_transforms(part) for part in given)
    return isinstance(given, Describes)


def described(transforms: Any) -> Any:
    """The description of a transform; of a list of them a list."""
    if not isinstance(transforms, Describes):
        return [described(part) for part in transforms]
    found = transforms.to_json()
    return json.loads(found) if isinstance(found, str) else found
