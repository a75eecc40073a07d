"""Whole files as `pyarrow.Table`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from zenith import _platform as _platform  # isort: split

from zenith import _engine

if TYPE_CHECKING:
    import pyarrow


def load(path: str | os.PathLike[str], *, columns: Sequence[str] | None = None, mmap: bool = False) -> pyarrow.Table:
    """Reads Parquet, Arrow IPC or CSV files (a file, a directory or a glob) into a ``pyarrow.Table``.

    The name of the first file tells the format. The engine decodes with all usable processors; the table takes over its
    buffers without a copy, and those of Arrow IPC files are the bytes of the file.

    Args:
        path: a file, a directory (hidden files are skipped) or a glob (bytewise sorted).
        columns: names of top-level columns, in any order; they come in the order of the file.
        mmap: map the files (Parquet, Arrow IPC) instead of reading them: uncompressed Arrow IPC then takes memory only as it
            is touched. The files must not change while the table lives: one that is cut ends the process with SIGBUS.

    In CSV a missing value is a null, and types are told by the values (see `zenith.Csv`).

    Raises:
        ImportError: pyarrow is not installed.
        zenith.ZenithError: no file, a name that tells no format, no such column, or bytes that are not of the format.
    """
    try:
        import pyarrow
    except ImportError as error:
        raise ImportError(
            "zenith.load gives a pyarrow.Table and needs pyarrow 15 or newer: pip install pyarrow"
        ) from error
    names = None if columns is None else list(columns)
    return pyarrow.table(_engine.load(os.path.expanduser(os.fspath(path)), names, mmap))
