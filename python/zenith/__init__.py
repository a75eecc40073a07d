"""Zenith: a fast, resumable data loader engine. Needs neither torch nor jax."""

from zenith import _platform as _platform  # isort: split  (says clearly when the engine cannot run here)
from zenith.errors import (
    BudgetError,
    CorruptError,
    DatasetChangedError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    ReadError,
    StateError,
    UnsupportedError,
    ZenithError,
)

__all__ = [
    "BudgetError",
    "CorruptError",
    "DatasetChangedError",
    "InternalError",
    "InvalidArgumentError",
    "NotFoundError",
    "ReadError",
    "StateError",
    "UnsupportedError",
    "ZenithError",
]
