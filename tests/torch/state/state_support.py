"""A dataset that counts what it is asked for, and the states of loaders over it."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.utils.data as data
from state_samplers import ORDERS, SIZE
from zenith_torch import DataLoader

BATCHES = 6


class Numbers(data.Dataset):
    """Sample *i* is *i*; counts how often each was asked for, in all processes."""

    def __init__(self, size: int = SIZE) -> None:
        self.asked = torch.zeros(size, dtype=torch.int64).share_memory_()

    def __len__(self) -> int:
        return len(self.asked)

    def __getitem__(self, index: int) -> int:
        self.asked[index] += 1
        return int(index)


class Counting(Numbers):
    """A map-style dataset with a state: a sample is how many were asked for before it, and itself."""

    count = 0

    def __getitem__(self, index: int) -> int:
        self.count += 1
        return self.count

    def state_dict(self) -> dict[str, int]:
        return {"count": self.count}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.count = state["count"]


def seed_all(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def make(order: str, seed: int, workers: int, loader: Callable[..., Any] = DataLoader, **more: Any) -> Any:
    seed_all(seed)
    made = loader(Numbers(), num_workers=workers, **ORDERS[order](), **more)
    if order == "distributed":
        made.sampler.set_epoch(5)
    return made


def values(batches: Any) -> list[Any]:
    return [batch.tolist() if isinstance(batch, torch.Tensor) else batch for batch in batches]


def through_json(state: dict[str, Any]) -> Any:
    return json.loads(json.dumps(state))


def broken(order: str, seed: int, workers: int, at: int, **more: Any) -> tuple[list[Any], dict[str, Any]]:
    """The first batches, and the state after them, also asked for when the iterator is long gone."""
    loader = make(order, seed, workers, **more)
    head = []
    if at >= 0:
        iterator = iter(loader)
        head = values(itertools.islice(iterator, at))
        state = loader.state_dict()
        del iterator
        assert loader.state_dict() == state
    return head, through_json(loader.state_dict())
