"""From the bytes the engine hands out to numpy values, for every kind of field."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from zenith.errors import UnsupportedError

if TYPE_CHECKING:
    from zenith.datasets import FieldInfo


def numpy_dtype(name: str) -> np.dtype[Any]:
    """The numpy element type; bfloat16 comes from ml_dtypes, which jax brings."""
    if name != "bfloat16":
        return np.dtype(name)
    try:
        import ml_dtypes
    except ImportError as error:
        raise UnsupportedError("numpy has no bfloat16: `pip install ml_dtypes`, or use float16 or float32") from error
    dtype: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
    return dtype


def field_values(info: FieldInfo, data: Any) -> Any:
    """The values of a field of several samples: an array ``[samples, *shape]``, or a list for a varying field."""
    if info.kind == "dense":
        assert info.dtype is not None
        assert info.shape is not None
        return np.frombuffer(data, dtype=numpy_dtype(info.dtype)).reshape(-1, *info.shape)
    offsets, content = data
    return varying_values(info, np.frombuffer(offsets, dtype=np.int64), content)


def varying_values(info: FieldInfo, offsets: np.ndarray[Any, Any], content: Any) -> list[Any]:
    """The values of a varying field; value ``i`` is ``content[offsets[i]:offsets[i + 1]]``."""
    view = memoryview(content)
    bounds = offsets.tolist()
    parts = [view[start:end] for start, end in itertools.pairwise(bounds)]
    if info.kind == "text":
        return [str(part, "utf-8") for part in parts]
    if info.kind == "binary":
        return [bytes(part) for part in parts]
    if info.kind == "json":
        return [json.loads(bytes(part)) for part in parts]
    assert info.dtype is not None
    dtype = numpy_dtype(info.dtype)
    return [np.frombuffer(bytearray(part), dtype=dtype) for part in parts]


def rows_of(schema: Sequence[FieldInfo], columns: list[Any], count: int) -> list[dict[str, Any]]:
    """One dict a sample; arrays are copied so that no sample keeps its neighbours alive."""
    names = [info.name for info in schema]
    rows = []
    for row in range(count):
        values = (c[row, ...].copy() if isinstance(c, np.ndarray) else c[row] for c in columns)
        rows.append(dict(zip(names, values, strict=True)))
    return rows
