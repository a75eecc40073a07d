"""Whether torch's ``default_collate`` does what torch ships, so that a quicker path may stand in for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.utils.data import default_collate
from torch.utils.data._utils import collate
from torch.utils.data._utils.collate import default_collate_fn_map

_SHIPPED: dict[type, Callable[..., Any]] = {
    torch.Tensor: collate.collate_tensor_fn,
    np.ndarray: collate.collate_numpy_array_fn,
    float: collate.collate_float_fn,
    int: collate.collate_int_fn,
    str: collate.collate_str_fn,
    bytes: collate.collate_str_fn,
}
"""Torch's entries, whatever the map holds by the time this module is imported."""


class Shipped:
    """Whether ``default_collate`` meets values like these with torch's own functions: asked by calling it.

    Programs and libraries change ``default_collate_fn_map``, to add types of their own (tensordict does) or to replace
    entries. An addition matters here only where one of the values is an instance of it.
    """

    def __init__(self, *values: Any) -> None:
        self._values = values
        self._seen: dict[Any, Any] = {}
        self._answer = False

    def __call__(self) -> bool:
        # Asked for every batch; the map hardly ever changes.
        if default_collate_fn_map != self._seen:
            self._seen = dict(default_collate_fn_map)
            self._answer = all(map(_meets_torchs, self._values))
        return self._answer


def _meets_torchs(value: Any) -> bool:
    entry = default_collate_fn_map.get(type(value))
    if entry is not _SHIPPED.get(type(value)):
        return False
    return entry is not None or not any(isinstance(value, kind) for kind in default_collate_fn_map)


_is_shipped = Shipped({}, np.empty(0), "", b"")
"""Of samples of Zenith datasets."""


def objection(collate_fn: Any) -> str | None:
    """Why batches of a Zenith dataset cannot be put together natively under this ``collate_fn``; ``None`` if they can."""
    if collate_fn is not None and collate_fn is not default_collate:
        return "collate_fn= was given: samples are asked for one by one, as torch does it"
    if not _is_shipped():
        return "default_collate_fn_map has an entry for the types of a sample: they are collated one by one"
    return None
