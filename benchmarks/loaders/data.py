"""Writes the files that the contenders read, once, and keeps them beside a note of how they were made."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.loaders.table import FEATURE_COUNT, FEATURES, LABEL, features, tokens

FORMAT_VERSION = 1
ROW_GROUP_ROWS = 131_072
CHUNK_ROWS = 131_072


@dataclasses.dataclass(frozen=True)
class Size:
    """How much data to write: rows of the table, rows of its CSV subset, tokens of the corpus."""

    rows: int = 4_000_000
    csv_rows: int = 1_000_000
    token_count: int = 50_000_000
    group_rows: int = ROW_GROUP_ROWS
    """Rows of a row group and of an Arrow record batch."""

    @property
    def large_group_rows(self) -> int:
        """Rows of a row group in the variant with large ones."""
        return 8 * self.group_rows


GATE_SIZE = Size(rows=100_003, csv_rows=50_001, token_count=1_000_003, group_rows=8192)
"""The small files of the gate: odd counts, and blocks so small that every contender meets many of them."""


@dataclasses.dataclass(frozen=True)
class Files:
    """Where the files are, and how many rows, CSV rows and tokens they hold."""

    folder: str
    size: Size

    @property
    def parquet(self) -> str:
        """The table as pyarrow writes it by default, but with row groups of 131,072 rows: 28 × f32 + i64, snappy."""
        return os.path.join(self.folder, "table.parquet")

    @property
    def parquet_large_groups(self) -> str:
        """The same table in row groups of 1,048,576 rows."""
        return os.path.join(self.folder, "table-1mi.parquet")

    @property
    def parquet_plain(self) -> str:
        """The same table without dictionary pages, which pyarrow writes by default but which do nothing for such numbers."""
        return os.path.join(self.folder, "table-plain.parquet")

    @property
    def ipc(self) -> str:
        """The same table as an Arrow IPC file, in record batches of 131,072 rows, not compressed."""
        return os.path.join(self.folder, "table.arrow")

    @property
    def ipc_one_batch(self) -> str:
        """The same table as an Arrow IPC file of one record batch."""
        return os.path.join(self.folder, "table-one-batch.arrow")

    @property
    def csv(self) -> str:
        """The first rows of the table as CSV with a header."""
        return os.path.join(self.folder, "table.csv")

    @property
    def token_file(self) -> str:
        """The corpus: u16, no header."""
        return os.path.join(self.folder, "corpus.bin")

    def to_json(self) -> dict[str, object]:
        """The fields, for a child process."""
        return {"folder": self.folder, "size": dataclasses.asdict(self.size)}

    @staticmethod
    def from_json(value: dict[str, object]) -> Files:
        """The inverse of `to_json`."""
        return Files(str(value["folder"]), Size(**value["size"]))  # type: ignore[arg-type]


def place(root: Path, size: Size) -> Files:
    """Where the files of this size are under `root`, written or not; the folder exists."""
    folder = root / f"{size.rows}-{size.csv_rows}-{size.token_count}-{size.group_rows}-v{FORMAT_VERSION}"
    folder.mkdir(parents=True, exist_ok=True)
    return Files(str(folder), size)


def ensure(files: Files) -> None:
    """Writes the table and the tokens unless they are there. Prints one line per file."""
    note = Path(files.folder, "complete.json")
    if note.exists():
        return
    import pyarrow

    for title, write in (
        ("Parquet", write_parquet),
        ("Arrow IPC", write_ipc),
        ("CSV", write_csv),
        ("tokens", write_tokens),
    ):
        started_s = time.perf_counter()
        print(f"data: writing {title} …", end=" ", flush=True)
        write(files)
        print(f"{time.perf_counter() - started_s:.1f} s", flush=True)
    note.write_text(json.dumps({"size": dataclasses.asdict(files.size), "pyarrow": pyarrow.__version__}))


def record_batches(rows: int, chunk_rows: int = CHUNK_ROWS) -> Iterator[object]:
    """The table as `pyarrow.RecordBatch`es: 28 × float32 and the int64 `label`, which is the row id."""
    import pyarrow as pa

    for start in range(0, rows, chunk_rows):
        ids = np.arange(start, min(start + chunk_rows, rows), dtype=np.int64)
        columns = np.ascontiguousarray(features(ids).T)
        arrays = [pa.array(columns[index]) for index in range(FEATURE_COUNT)]
        yield pa.RecordBatch.from_arrays([*arrays, pa.array(ids)], names=[*FEATURES, LABEL])


def whole_table(rows: int) -> object:
    """The table as one `pyarrow.Table`."""
    import pyarrow as pa

    return pa.Table.from_batches(list(record_batches(rows)))


def write_parquet(files: Files) -> None:
    """The three Parquet files."""
    import pyarrow.parquet as pq

    table = whole_table(files.size.rows)
    pq.write_table(table, files.parquet, row_group_size=files.size.group_rows, compression="snappy")
    pq.write_table(table, files.parquet_large_groups, row_group_size=files.size.large_group_rows, compression="snappy")
    pq.write_table(
        table, files.parquet_plain, row_group_size=files.size.group_rows, compression="snappy", use_dictionary=False
    )


def write_ipc(files: Files) -> None:
    """Both Arrow IPC files, not compressed."""
    import pyarrow as pa

    table = whole_table(files.size.rows)
    for path, chunk_rows in ((files.ipc, files.size.group_rows), (files.ipc_one_batch, files.size.rows)):
        with pa.OSFile(path, "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table.combine_chunks(), max_chunksize=chunk_rows)


def write_csv(files: Files) -> None:
    """The CSV subset. pyarrow prints the shortest text that reads back as the same f32."""
    import pyarrow.csv

    with pyarrow.csv.CSVWriter(files.csv, next(record_batches(1)).schema) as writer:  # type: ignore[attr-defined]
        for batch in record_batches(files.size.csv_rows):
            writer.write_batch(batch)


def write_tokens(files: Files) -> None:
    """The corpus, in pieces, so that the memory stays small."""
    with open(files.token_file, "wb") as sink:
        for start in range(0, files.size.token_count, 1 << 20):
            sink.write(tokens(start, min(1 << 20, files.size.token_count - start)).tobytes())


def warm(path: str) -> None:
    """Reads a file once, so that every contender finds it in the page cache."""
    with open(path, "rb", buffering=0) as source:
        buffer = bytearray(1 << 22)
        while source.readinto(buffer):
            pass
