"""The transforms that datasets are given for their pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from zenith.transforms import Compose, Transform


def is_transforms(given: Any) -> bool:
    """Whether this is a transform, or a list of them."""
    if isinstance(given, Sequence) and not isinstance(given, (str, bytes)):
        return bool(given) and all(isinstance(part, Transform) for part in given)
    return isinstance(given, Transform)


def described(transforms: Any) -> Any:
    """How the engine is told of a transform, or of a list of them, which are composed."""
    composed = transforms if isinstance(transforms, Transform) else Compose(list(transforms))
    return json.loads(composed.to_json())


def indexed(spec: dict[str, Any], entropy_index: bool) -> dict[str, Any]:
    """The description of a dataset of pictures, with an index of them if that is wanted."""
    return {"format": "EntropyIndex", "of": spec} if entropy_index else spec
