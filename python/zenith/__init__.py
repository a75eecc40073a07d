"""Zenith: a fast, resumable data loader engine. Needs neither torch nor jax."""

from zenith import _platform as _platform  # isort: split  (says clearly when the engine cannot run here)
from zenith._heartbeat import heartbeat
from zenith._info import info
from zenith.datasets import ArrowIpc, Csv, Dataset, FieldInfo, Parquet, Tokens, View, concat, open
from zenith.errors import (
    BadSamplesError,
    BudgetError,
    CorruptError,
    DatasetChangedError,
    ForkedEngineError,
    GivenUpError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    ReadError,
    ReadTimeoutError,
    StallError,
    StateError,
    UnsupportedError,
    ZenithError,
)
from zenith.image_folder import ImageFolder
from zenith.tables import load
from zenith.webdataset import WebDataset

__all__ = [
    "ArrowIpc",
    "BadSamplesError",
    "BudgetError",
    "CorruptError",
    "Csv",
    "Dataset",
    "DatasetChangedError",
    "FieldInfo",
    "ForkedEngineError",
    "GivenUpError",
    "ImageFolder",
    "InternalError",
    "InvalidArgumentError",
    "NotFoundError",
    "Parquet",
    "ReadError",
    "ReadTimeoutError",
    "StallError",
    "StateError",
    "Tokens",
    "UnsupportedError",
    "View",
    "WebDataset",
    "ZenithError",
    "concat",
    "heartbeat",
    "info",
    "load",
    "open",
]
