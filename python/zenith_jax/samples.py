"""Python datasets: which samples make a batch, loaded one by one and put together as numpy arrays.

A worker process needs this module and the dataset, and no backend of JAX.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jax.tree_util import keystr, tree_flatten_with_path, tree_structure
from zenith.errors import InvalidArgumentError

_NARROW = {np.dtype(np.int64): np.int32, np.dtype(np.uint64): np.uint32, np.dtype(np.float64): np.float32}


def order(samples: int, seed: int, epoch: int, shuffle: bool) -> np.ndarray[Any, Any]:
    """The samples of an epoch by position."""
    if not shuffle:
        return np.arange(samples)
    return np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(samples)


def load(dataset: Any, indices: Sequence[int]) -> list[Any]:
    """The samples at these indices; by one call where the dataset has one for it."""
    if hasattr(dataset, "__getitems__"):
        return list(dataset.__getitems__(list(indices)))
    return [dataset[index] for index in indices]


def collate(samples: Sequence[Any], indices: Sequence[int], wide: bool) -> tuple[list[Any], Any]:
    """The leaves of the batch and its structure, which is that of every sample.

    A leaf is an array ``[samples, ...]`` of numbers, or a list of what is none. Without ``wide``, numbers of 64 bits become ones
    of 32.

    Raises:
        ValueError: samples of different structures or shapes.
        zenith.InvalidArgumentError: a number that does not fit in 32 bits.
    """
    flat: list[tuple[Any, Any]] = [tree_flatten_with_path(sample) for sample in samples]
    structure = flat[0][1]
    for index, (_, other) in zip(indices, flat, strict=True):
        if other != structure:
            raise ValueError(f"sample {index} is {other}, and sample {indices[0]} is {structure}: they make no batch")
    leaves = []
    for number, (path, _) in enumerate(flat[0][0]):
        name = keystr(path)
        leaves.append(_stacked(name, [sample[0][number][1] for sample in flat], indices, wide))
    return leaves, tree_structure(samples[0])


def _stacked(name: str, values: list[Any], indices: Sequence[int], wide: bool) -> Any:
    if isinstance(values[0], (str, bytes)):
        return values
    try:
        stacked = np.stack([np.asarray(value) for value in values])
    except ValueError as error:
        shapes = sorted({str(list(np.shape(value))) for value in values})
        raise ValueError(f"samples{name} of shapes {', '.join(shapes)} make no batch: pad or crop them") from error
    if stacked.dtype.kind not in "biufcV":
        return values
    narrow = _NARROW.get(stacked.dtype)
    if wide or narrow is None:
        return stacked
    with np.errstate(over="ignore"):
        cast = stacked.astype(narrow)
    misfits = np.isinf(cast) & np.isfinite(stacked) if stacked.dtype.kind == "f" else cast != stacked
    if misfits.any():
        place = tuple(np.argwhere(misfits)[0])
        raise InvalidArgumentError(
            f"sample {indices[place[0]]}{name}: {stacked[place]} does not fit {np.dtype(narrow).name}, and JAX has no wider type "
            "while jax_enable_x64 is off",
            row=int(indices[place[0]]),
            field=name,
        )
    return cast
