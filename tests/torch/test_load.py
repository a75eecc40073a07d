"""`zenith.load` against pyarrow."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
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
