"""The handlers that XLA calls: loaded from ``_xla.so`` and registered when they are first needed, never at import."""

from __future__ import annotations

import ctypes
import threading
from pathlib import Path
from typing import Any

import jax
from zenith import _engine  # noqa: F401  (before the module that links to it)

JAXLIB_FLOOR = "0.9.1"
"""Oldest jaxlib whose FFI (0.3) the handlers speak; requirements/xla.txt pins its headers."""

HANDLERS = ("zenith_next_batch", "zenith_normalize")
"""Custom call targets. Their symbols in the library have the same names."""

_LIBRARY = Path(__file__).with_name("_xla.so")
_lock = threading.Lock()
_loaded: ctypes.CDLL | None = None


def register() -> None:
    """Makes the handlers known to XLA, once; further calls do nothing.

    `normalize` and `next_batch` call it. A program calls it itself before it runs what was compiled or exported elsewhere
    (``jax.export``), where none of them is traced.

    Raises:
        ImportError: the library was not built, or this jaxlib does not take it.
    """
    global _loaded
    with _lock:
        if _loaded is not None:
            return
        # The backends come first. What is registered before them is looked at when they start, and then an incompatible
        # handler takes every operation of JAX down instead of this call.
        jax.devices()
        library = _library()
        for name in HANDLERS:
            try:
                jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(getattr(library, name)), platform="cpu")
            except Exception as error:
                raise ImportError(
                    f"jaxlib {_version()} does not take Zenith's handlers, which are for jaxlib {JAXLIB_FLOOR} and newer "
                    f"({error}). Install one of these, for instance with `pip install 'jax>={JAXLIB_FLOOR}'`"
                ) from error
        _loaded = library


def _library() -> ctypes.CDLL:
    if not _LIBRARY.exists():
        raise ImportError(
            f"{_LIBRARY.name} is missing: Zenith was built without zenith_jax's handlers. "
            "Build it where jaxlib is installed, or with ZENITH_BUILD_JAX=1"
        )
    try:
        return ctypes.CDLL(str(_LIBRARY))
    except OSError as error:
        raise ImportError(
            f"{_LIBRARY.name} cannot be loaded ({error}). Install it and zenith from one build"
        ) from error


def _version() -> Any:
    import jaxlib

    return getattr(jaxlib, "__version__", "of an unknown version")
