"""Columns that directories hold, against ``pyarrow.dataset(..., partitioning="hive")``."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest
import zenith
from zenith_torch import DataLoader

CITIES = ["Zürich", "a/b", "50%", "x=y", "7"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("hive")
    row = 0
    for year in (2024, 2025):
        for city in CITIES:
            folder = root / f"year={year}" / f"city={quote(city, safe='')}"
            folder.mkdir(parents=True)
            for part in range(2):
                pq.write_table(
                    pa.table({"row": np.arange(row, row + 11)}), folder / f"{part}.parquet", row_group_size=4
                )
                row += 11
    return root


def rows(dataset: zenith.Parquet, *names: str) -> list[tuple[Any, ...]]:
    """The samples, by indexing and from a loader, which must agree."""
    indexed = [tuple(sample[name] for name in names) for sample in dataset.__getitems__(range(len(dataset)))]
    batched = [
        row for batch in DataLoader(dataset, batch_size=7) for row in zip(*(batch[n] for n in names), strict=True)
    ]
    plain = [[v if isinstance(v, str) else v.item() for v in row] for row in indexed]
    assert plain == [[v if isinstance(v, str) else v.item() for v in row] for row in batched]
    return [tuple(row) for row in plain]


def oracle(root: Path, *names: str, **options: Any) -> list[tuple[Any, ...]]:
    found = pads.dataset(root, format="parquet", partitioning="hive").to_table(columns=list(names), **options)
    return sorted(zip(*(found[name].to_pylist() for name in names), strict=True))


def test_a_directory(root: Path) -> None:
    dataset = zenith.Parquet(root, partitioning="hive")
    assert [(info.name, info.kind, info.dtype) for info in dataset.schema] == [
        ("row", "dense", "int64"),
        ("year", "dense", "int64"),
        ("city", "text", None),
    ]
    assert sorted(rows(dataset, "row", "year", "city")) == oracle(root, "row", "year", "city")
    assert [info.name for info in zenith.Parquet(root).schema] == ["row"]


def test_columns_stack_and_dtypes(root: Path) -> None:
    dataset = zenith.Parquet(root, partitioning="hive", stack={"x": ["year", "row"]}, dtypes={"x": "float32"})
    sample = dataset[3]
    assert sample["x"].dtype == np.float32
    assert sample["x"].tolist() == [2024, 3 if sample["x"][1] == 3 else sample["x"][1]]
    only = zenith.Parquet(root, partitioning="hive", columns=["city"])
    assert len(rows(only, "city")) == len(only) == 220
    with pytest.raises(zenith.ZenithError, match="year"):
        zenith.Parquet(root, partitioning="hive", dtypes={"year": "int8"})[0]


@pytest.mark.parametrize(
    "filters",
    [
        [("year", "==", 2025)],
        [("year", ">", 2024), ("row", "<", 130)],
        [[("city", "in", ["a/b", "7"])], [("row", "<", 3)]],
        [("city", "!=", "50%"), ("year", "not in", [2025])],
    ],
)
def test_filters(root: Path, filters: Any) -> None:
    dataset = zenith.Parquet(root, partitioning="hive", filters=filters)
    expected = oracle(root, "row", "year", "city", filter=pq.filters_to_expression(filters))
    assert sorted(rows(dataset, "row", "year", "city")) == expected


def test_globs_and_files_inside_a_partition(root: Path) -> None:
    glob = zenith.Parquet(f"{root}/year=2024/*/0.parquet", partitioning="hive")
    expected = [row for row in oracle(root, "row", "year", "city") if row[1] == 2024 and row[0] % 22 < 11]
    assert sorted(rows(glob, "row", "year", "city")) == expected
    single = zenith.Parquet(root / "year=2025" / "city=x%3Dy" / "0.parquet", partitioning="hive")
    assert rows(single, "year", "city") == [(2025, "x=y")] * 11


def test_the_missing_partition_is_a_null(tmp_path: Path) -> None:
    for name in ("5", "__HIVE_DEFAULT_PARTITION__"):
        folder = tmp_path / f"k={name}"
        folder.mkdir()
        pq.write_table(pa.table({"row": [1, 2]}), folder / "x.parquet")
    with pytest.raises(zenith.CorruptError, match="null"):
        list(DataLoader(zenith.Parquet(tmp_path, partitioning="hive"), batch_size=2))
    filled = zenith.Parquet(tmp_path, partitioning="hive", nulls={"k": -1})
    assert sorted(rows(filled, "k")) == [(-1,), (-1,), (5,), (5,)]
    assert len(zenith.Parquet(tmp_path, partitioning="hive", filters=[("k", "!=", 6)])) == 2


def test_clashes_and_gaps_are_errors(tmp_path: Path) -> None:
    folder = tmp_path / "clash" / "row=1"
    folder.mkdir(parents=True)
    pq.write_table(pa.table({"row": [1]}), folder / "x.parquet")
    with pytest.raises(ValueError, match="row"):
        zenith.Parquet(tmp_path / "clash", partitioning="hive")
    for name in ("a=1", "b=1"):
        (tmp_path / "gap" / name).mkdir(parents=True)
        pq.write_table(pa.table({"row": [1]}), tmp_path / "gap" / name / "x.parquet")
    with pytest.raises(ValueError, match="key"):
        zenith.Parquet(tmp_path / "gap", partitioning="hive")
    with pytest.raises(ValueError, match="hives"):
        zenith.Parquet(tmp_path / "gap", partitioning="hives")


def test_the_fingerprint_knows_the_partitions(tmp_path: Path) -> None:
    prints = set()
    for year in (1, 2):
        folder = tmp_path / f"year={year}"
        folder.mkdir()
        pq.write_table(pa.table({"row": [1]}), folder / "x.parquet")
        prints.add(zenith.Parquet(folder / "x.parquet", partitioning="hive").fingerprint)
    assert len(prints) == 2
