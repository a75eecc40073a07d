"""Zenith for JAX. Importing it touches no backend and registers nothing; what is named here is imported when it is asked for."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zenith_jax.loader import DataLoader as DataLoader

if sys.version_info < (3, 11):
    raise ImportError(f"zenith_jax needs Python 3.11 or newer, as JAX does; this is {sys.version.split()[0]}")

_MODULES = {
    "DataLoader": "zenith_jax.loader",
}
__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
