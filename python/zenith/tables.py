"""Whole files as `pyarrow.Table`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from zenith import _platform as _platform  # isort: split

from zenith import _engine

if TYPE_CHECKING:
    import pyarrow


def load(path: str | os.PathLike[str], *, columns: Sequence[str] | None = None) -> pyarrow.Table:
    """Reads Parquet files (a file, a directory or a glob) into a ``pyarrow.Table``.

    The engine decodes with all usable processors; the table takes over its buffers without a copy. ``columns`` names
    top-level columns, in any order; they come in the order of the file.

    Raises:
        ImportError: pyarrow is not installed.
        zenith.ZenithError: no file, no such column, or bytes that are not Parquet.
    """
    try:
        import pyarrow
    except ImportError as error:
        raise ImportError(
            "zenith.load gives a pyarrow.Table and needs pyarrow 15 or newer: pip install pyarrow"
        ) from error
    names = None if columns is None else list(columns)
    return pyarrow.table(_engine.load(os.path.expanduser(os.fspath(path)), names))
