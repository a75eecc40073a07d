"""A shuffled loader whose order is known, for the statements on states."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from contract_support import Numbers, values

Loader = type[torch.utils.data.DataLoader]

SIZE = 11
BATCHES = 6


def shuffled(loader_class: Loader, workers: int, **more: Any) -> Any:
    generator = torch.Generator().manual_seed(5)
    options = {"batch_size": 2, "shuffle": True, "generator": generator, "num_workers": workers}
    return stateful(loader_class(Numbers(SIZE), **{**options, **more}))


def stateful(loader: Any) -> Any:
    """The loader, if it has a state; asked first of all, so that one without it starts no workers."""
    assert loader.state_dict() is not None
    return loader


def take(iterator: Any, count: int) -> list[list[int]]:
    return values(itertools.islice(iterator, count))
