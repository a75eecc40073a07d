"""Columns that directories hold, against ``pyarrow.dataset(..., partitioning="hive")``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.dataset as pads
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
import zenith
from zenith_torch import DataLoader

CITIES = ["Zürich", "a/b", "50%", "x=y", "7"]


class Format(NamedTuple):
    """One of the formats whose files may lie in such directories."""

    open: Any
    oracle: str
    """Its name in pyarrow."""
    suffix: str

    def write(self, rows: Any, path: Path) -> Path:
        table = pa.table({"row": rows})
        path = path.with_suffix(self.suffix)
        if self.oracle == "parquet":
            pq.write_table(table, path, row_group_size=4)
        elif self.oracle == "feather":
            feather.write_feather(table, str(path), compression="uncompressed", chunksize=4)
        else:
            pacsv.write_csv(table, path)
        return path


FORMATS = [
    Format(zenith.Parquet, "parquet", ".parquet"),
    Format(zenith.ArrowIpc, "feather", ".arrow"),
    Format(zenith.Csv, "csv", ".csv"),
]


@pytest.fixture(scope="module", params=FORMATS, ids=lambda made: made.oracle)
def made(request: pytest.FixtureRequest) -> Format:
    found: Format = request.param
    return found


def tree(root: Path, made: Format) -> Path:
    row = 0
    for year in (2024, 2025):
        for city in CITIES:
            folder = root / f"year={year}" / f"city={quote(city, safe='')}"
            folder.mkdir(parents=True)
            for part in range(2):
                made.write(np.arange(row, row + 11), folder / str(part))
                row += 11
    return root


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, made: Format) -> Path:
    return tree(tmp_path_factory.mktemp("hive"), made)


def rows(dataset: zenith.Dataset, *names: str) -> list[tuple[Any, ...]]:
    """The samples, by indexing and from a loader, which must agree."""
    indexed = [tuple(sample[name] for name in names) for sample in dataset.__getitems__(range(len(dataset)))]
    batched = [
        row for batch in DataLoader(dataset, batch_size=7) for row in zip(*(batch[n] for n in names), strict=True)
    ]
    plain = [[v if isinstance(v, str) else v.item() for v in row] for row in indexed]
    assert plain == [[v if isinstance(v, str) else v.item() for v in row] for row in batched]
    return [tuple(row) for row in plain]


def oracle(root: Path, made: Format, *names: str, **options: Any) -> list[tuple[Any, ...]]:
    found = pads.dataset(root, format=made.oracle, partitioning="hive").to_table(columns=list(names), **options)
    return sorted(zip(*(found[name].to_pylist() for name in names), strict=True))


def test_a_directory(root: Path, made: Format) -> None:
    dataset = made.open(root, partitioning="hive")
    assert [(info.name, info.kind, info.dtype) for info in dataset.schema] == [
        ("row", "dense", "int64"),
        ("year", "dense", "int64"),
        ("city", "text", None),
    ]
    assert sorted(rows(dataset, "row", "year", "city")) == oracle(root, made, "row", "year", "city")
    assert [info.name for info in made.open(root).schema] == ["row"]


def test_columns_stack_and_dtypes(root: Path, made: Format) -> None:
    dataset = made.open(root, partitioning="hive", stack={"x": ["year", "row"]}, dtypes={"x": "float32"})
    sample = dataset[3]
    assert sample["x"].dtype == np.float32
    assert sample["x"].tolist() == [2024, 3 if sample["x"][1] == 3 else sample["x"][1]]
    only = made.open(root, partitioning="hive", columns=["city"])
    assert len(rows(only, "city")) == len(only) == 220
    with pytest.raises(zenith.ZenithError, match="year"):
        made.open(root, partitioning="hive", dtypes={"year": "int8"})[0]


@pytest.mark.parametrize(
    "filters",
    [
        [("year", "==", 2025)],
        [("year", ">", 2024), ("row", "<", 130)],
        [[("city", "in", ["a/b", "7"])], [("row", "<", 3)]],
        [("city", "!=", "50%"), ("year", "not in", [2025])],
    ],
)
def test_filters(tmp_path: Path, filters: Any) -> None:
    root = tree(tmp_path, FORMATS[0])
    dataset = zenith.Parquet(root, partitioning="hive", filters=filters)
    expected = oracle(root, FORMATS[0], "row", "year", "city", filter=pq.filters_to_expression(filters))
    assert sorted(rows(dataset, "row", "year", "city")) == expected


def test_globs_and_files_inside_a_partition(root: Path, made: Format) -> None:
    glob = made.open(f"{root}/year=2024/*/0{made.suffix}", partitioning="hive")
    expected = [row for row in oracle(root, made, "row", "year", "city") if row[1] == 2024 and row[0] % 22 < 11]
    assert sorted(rows(glob, "row", "year", "city")) == expected
    single = made.open(root / "year=2025" / "city=x%3Dy" / f"0{made.suffix}", partitioning="hive")
    assert rows(single, "year", "city") == [(2025, "x=y")] * 11


def test_the_missing_partition_is_a_null(tmp_path: Path, made: Format) -> None:
    for name in ("5", "__HIVE_DEFAULT_PARTITION__"):
        folder = tmp_path / f"k={name}"
        folder.mkdir()
        made.write([1, 2], folder / "x")
    with pytest.raises(zenith.CorruptError, match="null"):
        list(DataLoader(made.open(tmp_path, partitioning="hive"), batch_size=2))
    filled = made.open(tmp_path, partitioning="hive", nulls={"k": -1})
    assert sorted(rows(filled, "k")) == [(-1,), (-1,), (5,), (5,)]
    if made.open is zenith.Parquet:
        assert len(zenith.Parquet(tmp_path, partitioning="hive", filters=[("k", "!=", 6)])) == 2


def test_clashes_and_gaps_are_errors(tmp_path: Path, made: Format) -> None:
    folder = tmp_path / "clash" / "row=1"
    folder.mkdir(parents=True)
    made.write([1], folder / "x")
    with pytest.raises(ValueError, match="row"):
        made.open(tmp_path / "clash", partitioning="hive")
    for name in ("a=1", "b=1"):
        (tmp_path / "gap" / name).mkdir(parents=True)
        made.write([1], tmp_path / "gap" / name / "x")
    with pytest.raises(ValueError, match="key"):
        made.open(tmp_path / "gap", partitioning="hive")
    with pytest.raises(ValueError, match="hives"):
        made.open(tmp_path / "gap", partitioning="hives")


def test_the_fingerprint_knows_the_partitions(tmp_path: Path, made: Format) -> None:
    prints = set()
    for year in (1, 2):
        folder = tmp_path / f"year={year}"
        folder.mkdir()
        made.write([1], folder / "x")
        prints.add(made.open(folder / f"x{made.suffix}", partitioning="hive").fingerprint)
    assert len(prints) == 2


def test_every_column_may_be_one_of_the_directories(root: Path, made: Format) -> None:
    dataset = made.open(root, partitioning="hive", columns=["year"], dtypes={"year": "float16"})
    assert dataset.schema[0].dtype == "float16"
    assert sum(len(batch["year"]) for batch in DataLoader(dataset, batch_size=50, shuffle=True)) == 220
    split, rest = dataset.split(0.5)
    assert len(split) + len(rest) == 220
    assert {row for (row,) in rows(split, "year")} == {2024.0, 2025.0}


@pytest.mark.parametrize("compression", ["uncompressed", "lz4", "zstd"])
def test_arrow_ipc_however_it_is_written(tmp_path: Path, compression: str) -> None:
    """Plain numbers are read without arrow, packed ones and text by arrow: directories go beside both."""
    for key in ("007", "8"):
        folder = tmp_path / f"key={key}"
        folder.mkdir()
        table = pa.table({"n": np.arange(30), "t": [f"{key} {i}" for i in range(30)]})
        feather.write_feather(table, str(folder / "x.arrow"), compression=compression, chunksize=13)
    for columns in (["n", "key"], ["t", "key"], ["key", "t", "n"]):
        dataset = zenith.ArrowIpc(tmp_path, partitioning="hive", columns=columns)
        found = pads.dataset(tmp_path, format="feather", partitioning="hive").to_table(columns=columns)
        assert rows(dataset, *columns) == list(zip(*(found[name].to_pylist() for name in columns), strict=True))


def test_csv_keeps_the_text_of_directories_where_asked(tmp_path: Path) -> None:
    for key in ("007", "8"):
        (tmp_path / f"key={key}").mkdir()
        FORMATS[2].write(range(3), tmp_path / f"key={key}" / "x")
    dataset = zenith.Csv(tmp_path, partitioning="hive", dtypes={"key": "str"})
    assert [value for (value,) in rows(dataset, "key")] == ["007"] * 3 + ["8"] * 3
    with pytest.raises(zenith.NotFoundError, match="kez"):
        zenith.Csv(tmp_path, partitioning="hive", dtypes={"kez": "str"})


def test_large_record_batches_are_read_in_parts_with_their_directories(tmp_path: Path) -> None:
    rows_each = 300_000
    for key in ("a", "bcd"):
        (tmp_path / f"key={key}").mkdir()
        feather.write_feather(
            pa.table({"n": np.arange(rows_each)}),
            str(tmp_path / f"key={key}" / "x.arrow"),
            compression="uncompressed",
            chunksize=rows_each,
        )
    dataset = zenith.ArrowIpc(tmp_path, partitioning="hive")
    (batch,) = DataLoader(dataset, batch_size=2 * rows_each)
    assert np.array_equal(batch["n"].numpy(), np.tile(np.arange(rows_each), 2))
    assert batch["key"] == ["a"] * rows_each + ["bcd"] * rows_each
