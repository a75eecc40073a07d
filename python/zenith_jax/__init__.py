"""Zenith for JAX. Importing it touches no backend and registers nothing; what is named here is imported when it is asked for."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zenith_jax._ffi import register as register
    from zenith_jax.distributed import initialize as initialize
    from zenith_jax.feed import Feed as Feed
    from zenith_jax.images import normalize as normalize
    from zenith_jax.in_program import next_batch as next_batch
    from zenith_jax.loader import DataLoader as DataLoader
    from zenith_jax.tokens import shift_tokens as shift_tokens

if sys.version_info < (3, 11):
    raise ImportError(f"zenith_jax needs Python 3.11 or newer, as JAX does; this is {sys.version.split()[0]}")

_MODULES = {
    "DataLoader": "zenith_jax.loader",
    "Feed": "zenith_jax.feed",
    "initialize": "zenith_jax.distributed",
    "next_batch": "zenith_jax.in_program",
    "normalize": "zenith_jax.images",
    "register": "zenith_jax._ffi",
    "shift_tokens": "zenith_jax.tokens",
}
__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
