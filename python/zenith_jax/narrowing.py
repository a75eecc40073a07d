"""In which element types fields arrive: as they are, as the caller asked, or cut to 32 bits where JAX has no wider ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from zenith.datasets import FieldInfo

NARROWED = {"int64": "int32", "uint64": "uint32", "float64": "float32"}


def has_64_bits() -> bool:
    """Whether JAX has types of 64 bits, here and now: it is a setting, and a context."""
    return bool(jax.dtypes.canonicalize_dtype(np.int64) == np.int64)


def delivered(schema: tuple[FieldInfo, ...], asked: Mapping[str, Any]) -> dict[str, str]:
    """The element type of each dense field that is not delivered in its own.

    Raises:
        ValueError: a type of 64 bits was asked for while ``jax_enable_x64`` is off.
    """
    wide = has_64_bits()
    dtypes = {name: _name(dtype) for name, dtype in asked.items()}
    for name, dtype in dtypes.items():
        if not wide and dtype in NARROWED:
            raise ValueError(
                f"dtypes={{{name!r}: {dtype!r}}} needs jax_enable_x64, which is off: JAX would cut the values. "
                f"Use {NARROWED[dtype]!r}, or jax.config.update('jax_enable_x64', True)"
            )
    for info in schema:
        if not wide and info.kind == "dense" and info.name not in dtypes and info.dtype in NARROWED:
            dtypes[info.name] = NARROWED[info.dtype]
    return dtypes


def account(schema: tuple[FieldInfo, ...], asked: Mapping[str, Any]) -> str | None:
    """What is said of it, if there is anything to say."""
    own = {info.name: info.dtype for info in schema}
    cast = [f"{name} {own.get(name)} as {dtype}" for name, dtype in delivered(schema, asked).items()]
    if not cast:
        return None
    why = "" if has_64_bits() else " (jax_enable_x64 is off; a value that does not fit is an error)"
    return f"types: {', '.join(cast)}{why}"


def _name(dtype: Any) -> str:
    return dtype if isinstance(dtype, str) else np.dtype(dtype).name
