"""Zenith for JAX: batches that are `jax.Array`s, on the devices. Importing it touches no backend."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zenith_jax.loader import DataLoader

_HOMES = {"DataLoader": "zenith_jax.loader"}
"""Where each public name is; imported when it is first used."""

__all__ = ["DataLoader"]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
