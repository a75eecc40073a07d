"""Samples of many types, and what a loader makes of them; at module level, so that they pickle."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from contract_support import error_of, identity
from torch.utils.data import Dataset

Loader = type[torch.utils.data.DataLoader]


class Samples(Dataset):
    def __init__(self, *samples: Any) -> None:
        self.samples = samples

    def __getitem__(self, index: int) -> Any:
        return self.samples[index]

    def __len__(self) -> int:
        return len(self.samples)


class Point(NamedTuple):
    x: Any
    y: Any


class Fields(dict):
    """A mapping with an attribute of its own."""

    extra = "none"


class Row(list):
    extra = "none"


def batch_of(loader_class: Loader, workers: int, *samples: Any) -> Any:
    (batch,) = loader_class(Samples(*samples), batch_size=len(samples), num_workers=workers)
    return batch


def failure(loader_class: Loader, workers: int, *samples: Any) -> Exception:
    loader = loader_class(Samples(*samples), batch_size=len(samples), num_workers=workers)
    return error_of(next, iter(loader))


def assert_tensor(value: Any, expected: Any, dtype: torch.dtype) -> None:
    assert type(value) is torch.Tensor
    assert value.dtype is dtype
    assert torch.equal(value, torch.as_tensor(expected, dtype=dtype))


def is_marked(value: Any) -> bool:
    return getattr(value, "is_marked", False)


def pin(loader_class: Loader, workers: int, sample: Any) -> Any:
    loader = loader_class(Samples(sample), batch_size=None, collate_fn=identity, num_workers=workers, pin_memory=True)
    return next(iter(loader))
