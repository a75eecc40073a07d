"""Torch's ``Subset`` and ``ConcatDataset`` over Zenith datasets, turned into views that the engine reads."""

from __future__ import annotations

from typing import Any

import zenith
from torch.utils.data import ConcatDataset, Subset
from zenith.datasets import overridden


def native_view(dataset: Any) -> zenith.Dataset | str:
    """The Zenith dataset with the samples of ``dataset``, or why there is none."""
    if isinstance(dataset, zenith.Dataset):
        name = overridden(dataset)
        if name is None:
            return dataset
        return f"{type(dataset).__name__} overrides {name}: samples are asked for one by one"
    # Subclasses may deliver other samples than their base classes do.
    if type(dataset) is Subset:
        below = native_view(dataset.dataset)
        if isinstance(below, str):
            return below
        try:
            return below.select(dataset.indices)
        except (TypeError, ValueError, IndexError, zenith.ZenithError) as error:
            return f"the indices of Subset are not plain: {error}"
    if type(dataset) is ConcatDataset:
        parts: list[zenith.Dataset] = []
        for part in dataset.datasets:
            found = native_view(part)
            if isinstance(found, str):
                return found
            parts.append(found)
        try:
            return zenith.concat(parts)
        except zenith.ZenithError as error:
            return f"the parts of ConcatDataset differ: {error}"
    return f"{type(dataset).__name__} is not a Zenith dataset: torch's own loader runs it"
