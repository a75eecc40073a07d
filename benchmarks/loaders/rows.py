"""From pyarrow's columns to row-major tensors: the step that every peer needs, written once and as fast as numpy allows."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.loaders.table import FEATURE_COUNT, FEATURES, LABEL


def to_rows(table: Any) -> tuple[np.ndarray, np.ndarray]:
    """The features f32 [n, 28], row-major, and the labels i64 [n] of a `pyarrow.Table` or `RecordBatch`; owned by the caller.

    One strided store per column was tried beside strips of rows, `np.stack` with a transposition, and `torch.stack`: none
    of them was faster.
    """
    labels = column_values(table, LABEL)
    x = np.empty((len(labels), FEATURE_COUNT), np.float32)
    for index, name in enumerate(FEATURES):
        x[:, index] = column_values(table, name)
    return x, labels


def column_values(table: Any, name: str) -> np.ndarray:
    """One column as a numpy array; without a copy where pyarrow has it in one chunk."""
    return table.column(name).to_numpy()
