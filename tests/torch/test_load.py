"""`zenith.load` against pyarrow."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import zenith


def test_it_is_the_table_that_pyarrow_reads(parquet_files: Path, parquet_table: pa.Table) -> None:
    assert zenith.load(parquet_files).equals(parquet_table)
    some = zenith.load(parquet_files / "*.parquet", columns=["label", "f1"])
    assert some.equals(parquet_table.select(["f1", "label"]))


def test_every_type_of_column(tmp_path: Path) -> None:
    table = pa.table(
        {
            "text": ["a", None, "c"],
            "list": [[1, 2], [], None],
            "struct": [{"a": 1, "b": "x"}, None, {"a": 3, "b": None}],
            "time": pa.array([1, 2, None], pa.timestamp("us", "UTC")),
            "dictionary": pa.array(["u", "v", "u"]).dictionary_encode(),
            "map": pa.array([[("k", 1)], [], None], pa.map_(pa.string(), pa.int64())),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    assert zenith.load(tmp_path / "a.parquet").equals(pq.read_table(tmp_path / "a.parquet"))


def test_it_outlives_its_engine_table_and_names_errors(parquet_files: Path, tmp_path: Path) -> None:
    column = zenith.load(parquet_files)["id"]
    assert column.to_pylist() == list(range(10_007))
    with pytest.raises(zenith.NotFoundError, match="no column"):
        zenith.load(parquet_files, columns=["nope"])
    whole = (parquet_files / "part-1.parquet").read_bytes()
    for cut in range(0, len(whole), 7):
        (tmp_path / "cut.parquet").write_bytes(whole[:cut])
        with pytest.raises(zenith.ZenithError, match=r"cut\.parquet"):
            zenith.load(tmp_path / "cut.parquet")


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("form", ["file", "stream", "lz4", "zstd"])
def test_arrow_ipc(tmp_path: Path, form: str, mmap: bool) -> None:
    table = pa.table(
        {
            "n": pa.array(range(5000), pa.int32()),
            "text": [None if i % 7 == 0 else f"text {i}" for i in range(5000)],
            "list": [[i, i + 1] if i % 3 else None for i in range(5000)],
            "kind": pa.array([f"k{i % 5}" for i in range(5000)]).dictionary_encode(),
            "struct": [{"a": i, "b": str(i)} for i in range(5000)],
        }
    )
    path = tmp_path / "t.arrow"
    options = pa.ipc.IpcWriteOptions(compression=form if form in ("lz4", "zstd") else None)
    writer = pa.ipc.new_stream if form == "stream" else pa.ipc.new_file
    with writer(path, table.schema, options=options) as sink:
        sink.write_table(table, max_chunksize=1500)
    assert zenith.load(path, mmap=mmap).equals(table)
    assert zenith.load(path, columns=["struct", "text"], mmap=mmap).equals(table.select(["text", "struct"]))
    whole = path.read_bytes()
    for cut in range(0, len(whole), 997):
        (tmp_path / "cut.arrow").write_bytes(whole[:cut])
        with pytest.raises(zenith.ZenithError):
            zenith.load(tmp_path / "cut.arrow", mmap=mmap)


@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "csv.zst"])
def test_csv(tmp_path: Path, suffix: str) -> None:
    table = pa.table(
        {
            "n": [None if i % 11 == 0 else i for i in range(30_000)],
            "x": [i / 7 for i in range(30_000)],
            "flag": [i % 2 == 0 for i in range(30_000)],
            "text": [f'line\n"{i}", quoted' for i in range(30_000)],
        }
    )
    path = tmp_path / f"t.{suffix}"
    with pa.output_stream(str(path), compression={"csv.gz": "gzip", "csv.zst": "zstd"}.get(suffix)) as sink:
        pa.csv.write_csv(table, sink)
    assert zenith.load(path).equals(table)
    assert zenith.load(path, columns=["text", "n"]).equals(table.select(["n", "text"]))
    with pytest.raises(zenith.InvalidArgumentError, match="mmap is for"):
        zenith.load(path, mmap=True)


def test_a_name_that_tells_no_table(tmp_path: Path) -> None:
    (tmp_path / "t.bin").write_bytes(b"x" * 64)
    with pytest.raises(zenith.UnsupportedError, match=r"\.parquet"):
        zenith.load(tmp_path / "t.bin")
