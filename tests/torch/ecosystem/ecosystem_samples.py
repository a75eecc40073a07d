"""The two loaders and a dataset in plain Python, as several files use them."""

from __future__ import annotations

from typing import Any

import torch
import torch.utils.data
import zenith_torch
from torch.utils.data import Dataset

LOADERS = {"torch": torch.utils.data.DataLoader, "zenith": zenith_torch.DataLoader}
"""Torch's own, which proves a test, and ours."""


class Numbers(Dataset[dict[str, Any]]):
    """``id`` (its number) and a row ``x`` of four float32."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"id": index, "x": torch.arange(4, dtype=torch.float32) + index}


def ids(batches: Any) -> list[list[int]]:
    """The numbers in each batch."""
    return [batch["id"].tolist() for batch in batches]
