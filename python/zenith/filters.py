"""Filters as users write them, in the form that the engine reads."""

from __future__ import annotations

import datetime
import decimal
import math
import numbers
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

Filters: TypeAlias = Sequence[tuple[str, str, Any]] | Sequence[Sequence[tuple[str, str, Any]]]
"""``(column, op, value)`` triples that must all hold, or several such lists of which one must."""

_OPERATORS = {"==", "!=", "<", "<=", ">", ">=", "in", "not in"}
_EPOCH = datetime.datetime(1970, 1, 1)


def conditions(filters: Filters | None) -> list[list[dict[str, Any]]]:
    """The groups of conditions; none where nothing is filtered.

    Raises:
        ValueError: a list without conditions, an unknown operator, or a value that equals nothing (None, NaN).
        TypeError: a value of another type than those that can be compared.
    """
    if filters is None:
        return []
    groups: Any = list(filters)
    if groups and len(groups[0]) > 0 and isinstance(groups[0][0], str):
        groups = [groups]
    if not groups or not all(len(group) > 0 for group in groups):
        raise ValueError("filters must hold a (column, op, value) triple, or lists of them; use None for all rows")
    return [[_condition(triple) for triple in group] for group in groups]


def _condition(triple: Any) -> dict[str, Any]:
    if isinstance(triple, str) or len(triple) != 3 or not isinstance(triple[0], str):
        raise ValueError(f"filters: expected (column, op, value), got {triple!r}")
    column, op, value = triple
    op = "==" if op == "=" else op
    if op not in _OPERATORS:
        raise ValueError(f"filters: unknown operator {op!r} for {column!r}. There are {', '.join(sorted(_OPERATORS))}")
    if op in ("in", "not in"):
        if isinstance(value, (str, bytes)) or not hasattr(value, "__iter__"):
            raise TypeError(f"filters: {op!r} for {column!r} needs a list of values, got {value!r}")
        return {"column": column, "test": {op: sorted((_literal(column, one) for one in value), key=repr)}}
    return {"column": column, "test": {op: _literal(column, value)}}


def _literal(column: str, value: Any) -> dict[str, Any]:
    if isinstance(value, (bool, np.bool_)):
        return {"bool": bool(value)}
    if isinstance(value, numbers.Integral):
        whole = int(value)
        if not -(2**63) <= whole < 2**64:
            raise ValueError(f"filters: {whole} for {column!r} has more than 64 bits")
        return {"int" if whole < 2**63 else "uint": whole}
    if isinstance(value, decimal.Decimal):
        if not value.is_finite():
            raise ValueError(f"filters: {value} for {column!r} is no number")
        return {"decimal": format(value, "f")}
    if isinstance(value, numbers.Real):
        number = float(value)
        if math.isnan(number):
            raise ValueError(f"filters: NaN for {column!r} is equal to nothing")
        return {"float": repr(number)}
    if isinstance(value, str):
        return {"text": str(value)}
    if isinstance(value, bytes):
        return {"bytes": list(value)}
    if isinstance(value, datetime.datetime):
        return _moment(column, value)
    if isinstance(value, datetime.date):
        return {"date": (value - _EPOCH.date()).days}
    if value is None:
        raise ValueError(f"filters: None for {column!r}: a missing value meets no condition")
    raise TypeError(f"filters: {value!r} for {column!r} is of type {type(value).__name__}, which cannot be compared")


def _moment(column: str, value: datetime.datetime) -> dict[str, Any]:
    if getattr(value, "nanosecond", 0):
        raise ValueError(f"filters: {value!r} for {column!r} has nanoseconds; moments are compared to the microsecond")
    utc = value.tzinfo is not None
    if utc:
        value = value.astimezone(datetime.timezone.utc).replace(tzinfo=None)
    return {"timestamp": {"micros": (value - _EPOCH) // datetime.timedelta(microseconds=1), "utc": utc}}
