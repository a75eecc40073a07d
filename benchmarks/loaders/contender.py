"""What a contender is, and the list of all of them."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import os
import pkgutil
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from benchmarks.loaders.data import Files
from benchmarks.loaders.jax_tables import DEVICES as JAX_WORKS
from benchmarks.loaders.pictures import WORKS as PICTURE_WORKS
from benchmarks.loaders.python_datasets import WORKS

ROW_BATCH = 4096
"""Rows of a batch of the table."""
TOKEN_BATCH, SEQUENCE_LENGTH = 16, 1024
"""Windows of a batch of tokens, and tokens of a window."""


class Feed(Protocol):
    """An opened contender. `epoch(k)` yields its batches of epoch k.

    A batch is `(x, y)`: for tables x is f32 [b, 28] and y is i64 [b]; for tokens both are i64 [b, 1024], y one token later.
    For `jax-*` both are `jax.Array`s and y is i32. For pictures x is as `pictures.PictureWork.dtype` says and y is i64 [b], as
    numpy arrays or tensors.
    That of a Python dataset is what torch's default collation makes of its samples.
    A limit, which makes no tensors, yields `pyarrow.RecordBatch` or `pyarrow.Table` instead. Where an `epoch` has no end
    (random windows), the caller stops.
    """

    def epoch(self, epoch: int) -> Iterator[Any]:
        """The batches of epoch `epoch`, in the order of delivery."""
        ...


@dataclasses.dataclass(frozen=True)
class Contender:
    """One way to read the data: the name of a row of the table, and how to open it."""

    name: str
    title: str
    """What it is, for the table, in a few words."""
    work: str
    """Rows of the same work are compared: "parquet", "parquet-plain", "arrow-ipc", "csv", "tokens" and their variants, and
    the `WORKS` of pictures and of Python datasets."""
    order: str
    """"shuffled", "file" (file order; "interleaved" and "by worker": of several files at once), "in order" (the dataset's),
    "random" (independent random windows: no epochs)."""
    open: Callable[[Files], Feed]
    path: Callable[[Files], str] | None
    """The file it reads; None for datasets without one."""
    requires: tuple[str, ...] = ("torch", "pyarrow")
    """The modules it needs. Their import is not part of any figure."""
    limit: bool = False
    """True for a bare reader or decoder that makes no tensors: a bound, not a competitor."""
    prepare: Callable[[Files], None] | None = None
    """What it needs once before it can run (a cache): in no figure."""
    environment: tuple[tuple[str, str], ...] = ()
    """What is set before it is imported."""
    skipped_by_default: bool = False
    """True for variants that only `--only` or `--all` runs."""

    @property
    def ours(self) -> bool:
        """Whether Zenith does the work."""
        return self.name.startswith("zenith")

    def missing(self) -> str | None:
        """Why it cannot run here, or None."""
        for module in self.requires:
            try:
                if importlib.util.find_spec(module) is None:
                    return f"needs the module {module}, which is not installed"
            except (ImportError, ValueError) as error:
                return f"needs the module {module}: {error}"
        return None

    def import_all(self) -> None:
        """Imports what it needs, so that no later clock sees an import."""
        os.environ.update(self.environment)
        for module in self.requires:
            importlib.import_module(module)


def count(batch: Any) -> int:
    """The number of samples of a batch of any contender."""
    if isinstance(batch, dict):
        return len(next(iter(batch.values())))
    return batch.num_rows if hasattr(batch, "num_rows") else len(batch[1])


def samples_of_epoch(contender: Contender, files: Files) -> int | None:
    """How many samples a whole epoch delivers; None where they are not counted: windows of tokens are looked up instead."""
    if contender.work == "tokens":
        return None
    if contender.work in PICTURE_WORKS:
        return PICTURE_WORKS[contender.work].samples(files)
    if contender.work in WORKS:
        return WORKS[contender.work].samples(files)
    if contender.work in JAX_WORKS and not contender.limit:
        return files.size.rows - files.size.rows % ROW_BATCH
    return files.size.csv_rows if contender.work == "csv" else files.size.rows


def all_contenders() -> dict[str, Contender]:
    """Every contender by name, in the order of the table. Each module of `contenders/` has a list `CONTENDERS`."""
    package = importlib.import_module("benchmarks.loaders.contenders")
    found: dict[str, Contender] = {}
    for info in sorted(
        pkgutil.iter_modules(package.__path__), key=lambda info: (not info.name.startswith("zenith"), info.name)
    ):
        module = importlib.import_module(f"{package.__name__}.{info.name}")
        for contender in module.CONTENDERS:
            assert contender.name not in found, f"two contenders are called {contender.name}"
            found[contender.name] = contender
    return found
