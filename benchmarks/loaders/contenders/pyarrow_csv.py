"""pyarrow over the CSV file: the bare reads as limits, whole and streamed, and the streamed read made into tensors."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from benchmarks.loaders.contender import ROW_BATCH, Contender
from benchmarks.loaders.table import FEATURES, LABEL


def types() -> Any:
    """The column types, given rather than inferred: f32 would be read as f64, which is more work."""
    import pyarrow as pa
    import pyarrow.csv

    return pyarrow.csv.ConvertOptions(column_types={**{name: pa.float32() for name in FEATURES}, LABEL: pa.int64()})


@dataclasses.dataclass
class CsvWhole:
    """`read_csv`: all threads, the whole table in memory."""

    path: str

    def epoch(self, epoch: int) -> Iterator[Any]:
        import pyarrow.csv

        yield pyarrow.csv.read_csv(self.path, convert_options=types())


@dataclasses.dataclass
class CsvStream:
    """`open_csv`: block by block, in file order."""

    path: str

    def epoch(self, epoch: int) -> Iterator[Any]:
        import pyarrow.csv

        return iter(pyarrow.csv.open_csv(self.path, convert_options=types()))


@dataclasses.dataclass
class CsvTensors:
    """`read_csv` with all threads, then batches (x, y) in file order: faster than the stream where the table fits in memory."""

    path: str

    def epoch(self, epoch: int) -> Iterator[tuple[Any, Any]]:
        import pyarrow.csv
        import torch

        from benchmarks.loaders.rows import to_rows

        table = pyarrow.csv.read_csv(self.path, convert_options=types())
        for batch in table.to_reader(max_chunksize=1 << 16):
            x, labels = to_rows(batch)
            y = torch.from_numpy(labels.copy())
            yield from zip(torch.from_numpy(x).split(ROW_BATCH), y.split(ROW_BATCH), strict=True)


CONTENDERS = [
    Contender(
        name=name,
        title=title,
        work="csv",
        order="file",
        open=lambda files, kind=kind: kind(files.csv),  # type: ignore[misc]
        path=lambda files: files.csv,
        requires=("torch", "pyarrow", "pyarrow.csv"),
        limit=limit,
    )
    for name, title, kind, limit in (
        ("pyarrow-csv-whole", "pyarrow read_csv, whole (limit)", CsvWhole, True),
        ("pyarrow-csv-stream", "pyarrow open_csv, streamed (limit)", CsvStream, True),
        ("pyarrow-csv-tensors", "pyarrow read_csv, batches as tensors", CsvTensors, False),
    )
]
