"""Bare pyarrow scans of the Parquet file: no shuffle, no tensors, no rows. A limit for anything that decodes with pyarrow."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.loaders.contender import Contender
from benchmarks.loaders.data import ROW_GROUP_ROWS, Files
from benchmarks.loaders.jax_tables import DEVICES as JAX_WORKS


@dataclasses.dataclass
class DatasetScan:
    """`pyarrow.dataset`: all threads, its own read-ahead."""

    path: str

    def epoch(self, epoch: int) -> Iterator[Any]:
        import pyarrow.dataset

        return iter(pyarrow.dataset.dataset(self.path).to_batches(batch_size=ROW_GROUP_ROWS))


@dataclasses.dataclass
class ParquetScan:
    """`ParquetFile.iter_batches`: all threads over the columns of one row group after the other."""

    path: str

    def epoch(self, epoch: int) -> Iterator[Any]:
        import pyarrow.parquet

        return iter(pyarrow.parquet.ParquetFile(self.path).iter_batches(batch_size=ROW_GROUP_ROWS))


WORKS: tuple[tuple[str, Callable[[Files], str]], ...] = (
    ("parquet", lambda files: files.parquet),
    ("parquet-plain", lambda files: files.parquet_plain),
    *((work, lambda files: files.parquet) for work in JAX_WORKS),
)


def scan(
    kind: type[DatasetScan] | type[ParquetScan], name: str, title: str, work: str, path: Callable[[Files], str]
) -> Contender:
    """One limit."""
    return Contender(
        name=f"{name}-{work}",
        title=title,
        work=work,
        order="file",
        open=lambda files: kind(path(files)),
        path=path,
        requires=("pyarrow", "pyarrow.dataset", "pyarrow.parquet"),
        limit=True,
    )


CONTENDERS = [
    scan(kind, name, title, work, path)
    for work, path in WORKS
    for kind, name, title in (
        (DatasetScan, "pyarrow-dataset-scan", "pyarrow.dataset scan (limit)"),
        (ParquetScan, "pyarrow-file-scan", "pyarrow ParquetFile scan (limit)"),
    )
]
