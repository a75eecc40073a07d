"""Filters of ``zenith.Parquet`` against ``pyarrow.parquet.read_table(..., filters=...)``."""

from __future__ import annotations

import datetime as dt
import os
import pickle
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest
import torch
import zenith
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from zenith_torch import DataLoader

ROWS = 3000
UTC = dt.timezone.utc
DAY = dt.date(2020, 1, 1)
NOON = dt.datetime(2020, 1, 1, 12)


def column(make: Any, data_type: pa.DataType, step: int = 7) -> pa.Array:
    """Row ``i`` holds ``make(i)``, every ``step``-th row nothing."""
    values = [None if i % step == 3 else make(i) for i in range(ROWS)]
    return pa.array(values, type=data_type)


def table() -> pa.Table:
    floats = [float("nan") if i % 11 == 5 else (-0.0 if i % 11 == 6 else (i - 1500) / 4) for i in range(ROWS)]
    return pa.table(
        {
            "row": pa.array(range(ROWS), pa.int64()),
            "i8": column(lambda i: i % 256 - 128, pa.int8()),
            "u64": column(lambda i: 2**64 - 1 - i, pa.uint64()),
            "i32": column(lambda i: i - 1000, pa.int32()),
            "f32": pa.array(floats, pa.float32()),
            "f64": pa.array(floats, pa.float64()),
            "f16": pa.array(np.array(floats, np.float16)),
            "flag": column(lambda i: i % 3 == 0, pa.bool_()),
            "text": column(lambda i: f"k{i % 50:03}", pa.string()),
            "large": column(lambda i: f"ü{i}", pa.large_string()),
            "bytes": column(lambda i: bytes([i % 256, i // 256]), pa.binary()),
            "fixed": column(lambda i: bytes([i % 256, i // 256]), pa.binary(2)),
            "coded": column(lambda i: f"c{i % 9}", pa.string()).dictionary_encode(),
            "date": column(lambda i: DAY + dt.timedelta(days=i), pa.date32()),
            "us": column(lambda i: NOON + dt.timedelta(seconds=i), pa.timestamp("us")),
            "ms_utc": column(lambda i: NOON.replace(tzinfo=UTC) + dt.timedelta(seconds=i), pa.timestamp("ms", "UTC")),
            "ns": column(lambda i: NOON + dt.timedelta(milliseconds=i), pa.timestamp("ns")),
            "price": column(lambda i: Decimal(i - 500) / 100, pa.decimal128(9, 2)),
            "point": pa.array(
                [{"x": i % 40, "y": None} for i in range(ROWS)], pa.struct({"x": pa.int32(), "y": pa.int32()})
            ),
        }
    )


@pytest.fixture(scope="module")
def whole() -> pa.Table:
    return table()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, whole: pa.Table) -> Path:
    root = tmp_path_factory.mktemp("filters")
    for number, (start, end, group) in enumerate([(0, 1000, 130), (1000, 1001, 10), (1001, ROWS, 700)]):
        pq.write_table(whole.slice(start, end - start), root / f"part-{number}.parquet", row_group_size=group)
    return root


def typed(name: str, value: Any) -> Any:
    """pyarrow takes integers of more than 63 bits only with their type, and its lists tell -0.0 from 0.0."""
    if name in ("f32", "f64") and isinstance(value, list) and 0.0 in value:
        return [*value, 0.0, -0.0]
    if name != "u64":
        return value
    return pa.array(value, pa.uint64()) if isinstance(value, list) else pa.scalar(value, pa.uint64())


def expected(files: Path, filters: Any) -> list[int]:
    """The rows that pyarrow finds; where it takes a null for ``not in``, ours does not."""
    groups = [filters] if isinstance(filters[0][0], str) else filters
    groups = [[(name, op, typed(name, value)) for name, op, value in group] for group in groups]
    expression = pq.filters_to_expression(groups)
    if any(op == "not in" for group in groups for _, op, _ in group):
        whole = None
        for group in groups:
            part = pq.filters_to_expression(group)
            for name, op, _ in group:
                if op == "not in":
                    part &= pads.field(*name.split(".")).is_valid()
            whole = part if whole is None else whole | part
        expression = whole
    return pads.dataset(files, format="parquet").to_table(columns=["row"], filter=expression)["row"].to_pylist()


def found(files: Path, filters: Any, **options: Any) -> list[int]:
    dataset = zenith.Parquet(files, columns=["row"], filters=filters, **options)
    return [int(sample["row"]) for sample in dataset.__getitems__(range(len(dataset)))]


OPERATORS = ["==", "=", "!=", "<", "<=", ">", ">="]
VALUES: list[tuple[str, list[Any]]] = [
    ("i8", [5, -128, 127]),
    ("u64", [2**64 - 1 - 2000, 2**64 - 1]),
    ("i32", [0, -1000, 1999, 777]),
    ("f32", [0.0, -0.0, 100.25, float("inf")]),
    ("f64", [0.0, -374.75, float("-inf"), 12]),
    ("text", ["k010", "", "z"]),
    ("large", ["ü77"]),
    ("bytes", [b"\x05\x01", b""]),
    ("fixed", [b"\x05\x01"]),
    ("coded", ["c4"]),
    ("date", [DAY + dt.timedelta(days=1234), dt.date(1900, 1, 1)]),
    ("us", [NOON + dt.timedelta(seconds=1500)]),
    ("ms_utc", [NOON.replace(tzinfo=UTC) + dt.timedelta(seconds=400)]),
    ("ns", [NOON + dt.timedelta(milliseconds=2000)]),
    ("price", [Decimal("3.25"), Decimal("-4.9")]),
]


@pytest.mark.parametrize(("name", "values"), VALUES, ids=[name for name, _ in VALUES])
def test_every_operator_on_every_type(files: Path, name: str, values: list[Any]) -> None:
    for value in values:
        for op in OPERATORS:
            filters = [(name, op, value)]
            assert found(files, filters) == expected(files, filters), filters
    for op in ("in", "not in"):
        filters = [(name, op, values)]
        assert found(files, filters) == expected(files, filters), filters


def test_booleans_halves_and_members_of_structs(files: Path, whole: pa.Table) -> None:
    for filters in ([("flag", "==", True)], [("flag", "!=", True)], [("flag", "in", [False])]):
        assert found(files, filters) == expected(files, filters)
    rows = [i for i, x in enumerate(whole["f16"].to_pylist()) if x is not None and x >= 2]
    assert found(files, [("f16", ">=", 2)]) == rows
    assert found(files, [("point.x", "<", 3)]) == [i for i in range(ROWS) if i % 40 < 3]
    assert found(files, [("point.y", "<", 3)]) == []


def conditions() -> st.SearchStrategy[tuple[str, str, Any]]:
    compare = st.sampled_from(VALUES).flatmap(
        lambda of: st.tuples(st.just(of[0]), st.sampled_from(OPERATORS), st.sampled_from(of[1]))
    )
    member = st.sampled_from(VALUES).flatmap(
        lambda of: st.tuples(
            st.just(of[0]), st.sampled_from(["in", "not in"]), st.lists(st.sampled_from(of[1]), min_size=1)
        )
    )
    whole = st.tuples(st.just("i32"), st.sampled_from(OPERATORS), st.integers(-1100, 2100))
    return compare | member | whole


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(filters=st.lists(st.lists(conditions(), min_size=1, max_size=3), min_size=1, max_size=3))
def test_any_of_all_of(files: Path, filters: list[list[tuple[str, str, Any]]]) -> None:
    assert found(files, filters) == expected(files, filters)


def test_batches_are_what_indexing_gives_and_resume_is_exact(files: Path, whole: pa.Table) -> None:
    filters = [("text", "in", ["k001", "k017", "k033"]), ("i32", ">", -700)]
    dataset = zenith.Parquet(files, columns=["row", "i32", "text"], nulls={"i32": 0, "text": ""}, filters=filters)
    rows = expected(files, filters)
    assert 0 < len(dataset) == len(rows) < ROWS
    batches = list(DataLoader(dataset, batch_size=7))
    assert torch.cat([batch["row"] for batch in batches]).tolist() == rows
    assert [value for batch in batches for value in batch["text"]] == [whole["text"][row].as_py() for row in rows]
    loader = DataLoader(dataset, batch_size=7, shuffle=True, seed=3, num_workers=2)
    assert "native" in loader.explain()
    order = [int(row) for batch in loader for row in batch["row"]]
    assert sorted(order) == rows
    loader.set_epoch(0)
    stream = iter(loader)
    for _ in range(4):
        next(stream)
    state = loader.state_dict()
    resumed = DataLoader(pickle.loads(pickle.dumps(dataset)), batch_size=7, shuffle=True, seed=3, num_workers=0)
    resumed.load_state_dict(state)
    assert [int(row) for batch in resumed for row in batch["row"]] == order[28:]
    part = dataset.split(0.5, seed=1)[0]
    assert set(DataLoader(part, batch_size=100).__iter__().__next__()["row"].tolist()) <= set(rows)


def test_the_filter_belongs_to_the_fingerprint(files: Path) -> None:
    prints = {
        zenith.Parquet(files, columns=["row"], filters=filters).fingerprint
        for filters in (None, [("i32", "<", 5)], [("i32", "<", 6)], [("i32", ">", -5000), ("row", ">=", 0)])
    }
    assert len(prints) == 4
    one, other = (zenith.Parquet(files, filters=[("i32", "in", of)], columns=["row"]) for of in ({1, 2}, [2, 1]))
    assert one.fingerprint == other.fingerprint


def test_nothing_matches(files: Path) -> None:
    dataset = zenith.Parquet(files, columns=["row"], filters=[("i32", ">", 10**6)])
    assert len(dataset) == 0
    assert list(DataLoader(dataset, batch_size=4)) == []
    assert found(files, [("i32", "in", [])]) == []
    assert len(found(files, [("row", "not in", [])])) == ROWS


def test_opening_again_decodes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: pa.Table) -> None:
    """The second opening finds the outcome in the sidecar, even where the values could not be read any more."""
    monkeypatch.setenv("ZENITH_CACHE_DIR", str(tmp_path / "cache"))
    path = tmp_path / "x.parquet"
    content = whole.select(["row", "i32"])
    pq.write_table(content, path, row_group_size=500, use_dictionary=False, write_page_checksum=True)
    filters = [("i32", "!=", 5)]
    rows = found(path, filters)
    kept = [file for file in (tmp_path / "cache" / "index").iterdir() if not file.name.startswith("lock-")]
    assert len(kept) == 1
    before = os.stat(path)
    meta = pq.ParquetFile(path).metadata.row_group(0).column(1)
    damaged = bytearray(path.read_bytes())
    damaged[meta.data_page_offset + meta.total_compressed_size - 3] ^= 1
    with path.open("r+b") as file:
        file.write(damaged)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert found(path, filters) == rows
    monkeypatch.setenv("ZENITH_CACHE_DIR", "")
    with pytest.raises(zenith.CorruptError):
        found(path, filters)


def test_a_changed_file_is_filtered_anew(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    for shift in (0, 3):
        pq.write_table(pa.table({"row": np.arange(10), "x": np.arange(10) + shift}), path)
        assert found(path, [("x", ">=", 5)]) == list(range(5 - shift, 10))


def test_statistics_skip_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Damage in a row group that cannot match is never seen; in one that can it is."""
    monkeypatch.setenv("ZENITH_CACHE_DIR", "")
    path = tmp_path / "x.parquet"
    content = pa.table({"row": np.arange(4000), "x": np.arange(4000)})
    pq.write_table(content, path, row_group_size=1000, compression=None, use_dictionary=False, write_page_checksum=True)
    meta = pq.ParquetFile(path).metadata.row_group(2).column(1)
    damaged = bytearray(path.read_bytes())
    damaged[meta.data_page_offset + 500] ^= 1
    path.write_bytes(damaged)
    for filters in ([("x", "<", 2000)], [("x", ">=", 3000)], [("x", "==", 7)], [("x", "in", [1, 3999])]):
        assert len(found(path, filters)) > 0
    for filters in ([("x", "<=", 2000)], [("x", ">", 2998)], [("x", "!=", 1)], [("x", "not in", [1])]):
        with pytest.raises(zenith.CorruptError, match="checksum"):
            found(path, filters)


def test_a_damaged_page_of_a_tested_column_is_named_at_opening(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether there is a loader that would skip the row group is not known yet, and which rows match neither."""
    monkeypatch.setenv("ZENITH_CACHE_DIR", "")
    path = tmp_path / "x.parquet"
    content = pa.table({"row": np.arange(4000), "x": np.arange(4000), "y": np.arange(4000)})
    pq.write_table(content, path, row_group_size=1000, compression=None, use_dictionary=False, write_page_checksum=True)
    meta = pq.ParquetFile(path).metadata.row_group(2).column(1)
    damaged = bytearray(path.read_bytes())
    damaged[meta.data_page_offset + 500] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(zenith.CorruptError, match=r"checksum.*restore the file.*on_error") as caught:
        zenith.Parquet(path, columns=["row"], filters=[("y", ">=", 0), ("x", ">=", 0)])
    error = caught.value
    assert (error.file, error.block, error.field) == ("x.parquet", 2, "x")
    # Without filters the row group is skipped where that is asked for; filters on sound columns are not affected.
    loader = DataLoader(zenith.Parquet(path), batch_size=100, on_error="skip")
    assert sum(len(batch["x"]) for batch in loader) == 3000
    assert len(zenith.Parquet(path, columns=["row"], filters=[("y", ">=", 10)])) == 3990


def test_statistics_that_are_cut_or_missing_lose_nothing(tmp_path: Path) -> None:
    long = ["a" * 200 + f"{i:04}" for i in range(1000)] + ["\U0010ffff" * 60, "z" * 5000]
    content = pa.table({"row": np.arange(1002), "text": long})
    for number, options in enumerate(({}, {"write_statistics": False}, {"version": "1.0"})):
        path = tmp_path / f"{number}.parquet"
        pq.write_table(content, path, row_group_size=100, **options)
        for filters in ([("text", "==", long[777])], [("text", ">", long[950])], [("text", ">=", long[1000])]):
            assert found(path, filters) == expected(path, filters)


@pytest.mark.parametrize(
    ("condition", "error"),
    [
        (("i8", "<", 1000), "1000.*i8"),
        (("i32", "==", 1.5), "1.5.*i32"),
        (("i32", "==", "7"), '"7".*i32'),
        (("flag", "==", 1), "1.*flag"),
        (("text", "==", 5), "5.*text"),
        (("fixed", "==", b"abc"), "abc.*fixed"),
        (("ms_utc", "==", NOON), "no zone.*ms_utc"),
        (("us", "==", NOON.replace(tzinfo=UTC)), "UTC.*us"),
        (("ms_utc", "==", dt.datetime(2020, 1, 1, 1, 1, 1, 1, tzinfo=UTC)), "ms_utc"),
        (("price", "==", Decimal("1.234")), "1.234.*price"),
        (("price", "==", 1.5), "1.5.*price"),
        (("date", "==", NOON), "date"),
        (("i32", "==", float("nan")), "NaN.*i32"),
        (("i32", "==", None), "None.*i32"),
        (("i32", "~", 1), "unknown operator"),
    ],
)
def test_values_that_cannot_be_compared_are_named(files: Path, condition: Any, error: str) -> None:
    with pytest.raises((ValueError, TypeError), match=error):
        zenith.Parquet(files, columns=["row"], filters=[condition])


def test_filters_that_are_none(files: Path) -> None:
    with pytest.raises(zenith.NotFoundError, match="nothere"):
        zenith.Parquet(files, columns=["row"], filters=[("nothere", "==", 1)])
    for filters in ([], [[]], [("i32", "==")]):
        with pytest.raises(ValueError, match="filters"):
            zenith.Parquet(files, columns=["row"], filters=filters)
    with pytest.raises(TypeError, match="list"):
        zenith.Parquet(files, columns=["row"], filters=[("text", "in", "abc")])
