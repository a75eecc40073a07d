"""Every type, codec and page form of Parquet: native batches equal ``ds[i]`` equal what pyarrow reads."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import zenith
from zenith_torch import DataLoader

ROWS = 1000
RANDOM = np.random.default_rng(11)
EPOCH = dt.datetime(1970, 1, 1)
UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def integers(name: str) -> pa.Array:
    info = np.iinfo(name)
    values = RANDOM.integers(info.min, info.max, ROWS, dtype=name, endpoint=True)
    values[:2] = info.min, info.max
    return pa.array(values)


def lists(make: Any, item: pa.DataType) -> pa.Array:
    return pa.array([[make(i + k) for k in range(i % 5)] for i in range(ROWS)], pa.list_(item))


def coded_lists() -> pa.Array:
    """Lists whose items are codes of a dictionary of numbers."""
    codes = pa.array([i % 3 for i in range(2 * ROWS)], pa.int8())
    return pa.ListArray.from_arrays(
        range(0, 2 * ROWS + 1, 2), pa.DictionaryArray.from_arrays(codes, pa.array([5, 6, -7]))
    )


COLUMNS: dict[str, pa.Array] = {
    **{name: integers(name) for name in ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")},
    "f16": pa.array(RANDOM.normal(size=ROWS).astype(np.float16)),
    "f32": pa.array(RANDOM.normal(size=ROWS).astype(np.float32)),
    "f64": pa.array(RANDOM.normal(size=ROWS)),
    "bool": pa.array(RANDOM.random(ROWS) < 0.3),
    "text": pa.array([f"straße {i}" * (i % 4) for i in range(ROWS)]),
    "large_text": pa.array([f"{i}" for i in range(ROWS)], pa.large_string()),
    "text_view": pa.array([f"view {i}" for i in range(ROWS)], pa.string_view()),
    "binary": pa.array([bytes([i % 256]) * (i % 7) for i in range(ROWS)]),
    "fixed_binary": pa.array([i.to_bytes(3, "big") for i in range(ROWS)], pa.binary(3)),
    "coded_text": pa.array([f"c{i % 9}" for i in range(ROWS)]).dictionary_encode(),
    "coded_number": pa.DictionaryArray.from_arrays(
        pa.array([i % 4 for i in range(ROWS)], pa.int16()), pa.array([1.5, 2, 3, 4])
    ),
    "list": lists(lambda i: i * i, pa.int64()),
    "list_f32": lists(lambda i: i / 4, pa.float32()),
    "list_bool": lists(lambda i: i % 3 == 0, pa.bool_()),
    "large_list": lists(lambda i: i, pa.int32()).cast(pa.large_list(pa.int32())),
    "coded_list": coded_lists(),
    "fixed_list": pa.FixedSizeListArray.from_arrays(pa.array(np.arange(3 * ROWS, dtype=np.float32)), 3),
    "matrix": pa.FixedSizeListArray.from_arrays(
        pa.FixedSizeListArray.from_arrays(pa.array(np.arange(6 * ROWS, dtype=np.int32)), 3), 2
    ),
    "date32": pa.array([dt.date(1900, 1, 1) + dt.timedelta(days=37 * i) for i in range(ROWS)]),
    "date64": pa.array([dt.date(2000, 1, 1) + dt.timedelta(days=i) for i in range(ROWS)], pa.date64()),
    "time32": pa.array([dt.time(i % 24, i % 60, i % 60) for i in range(ROWS)], pa.time32("ms")),
    "time64": pa.array([dt.time(i % 24, i % 60, i % 60, i) for i in range(ROWS)], pa.time64("us")),
    **{
        f"ts_{unit}": pa.array([i * 10**6 for i in range(-500, ROWS - 500)], pa.timestamp(unit))
        for unit in ("ms", "us", "ns")
    },
    "ts_utc": pa.array(range(ROWS), pa.timestamp("us", "UTC")),
    "duration": pa.array(range(ROWS), pa.duration("ms")),
    "decimal_whole": pa.array([Decimal(i * 10**9) for i in range(ROWS)], pa.decimal128(18, 0)),
}
INTEGRAL = (pa.types.is_date, pa.types.is_time, pa.types.is_timestamp, pa.types.is_duration)


def plain(array: pa.ChunkedArray | pa.Array) -> list[Any]:
    """What pyarrow reads, as samples hold it: times as the integers that stand for them."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        return [value.as_py() for value in array]
    if any(check(kind) for check in INTEGRAL):
        width = pa.int32() if pa.types.is_date32(kind) or pa.types.is_time32(kind) else pa.int64()
        return array.cast(width).to_pylist()
    if pa.types.is_decimal(kind):
        return [None if value is None else int(value) for value in array.to_pylist()]
    return array.to_pylist()


def bare(value: Any) -> Any:
    return value.tolist() if isinstance(value, (np.ndarray, np.generic, torch.Tensor)) else value


def batched(dataset: zenith.Parquet, name: str, workers: int = 2) -> list[Any]:
    values: list[Any] = []
    for batch in DataLoader(dataset, batch_size=64, num_workers=workers):
        values.extend(bare(value) for value in batch[name])
    return values


def check(path: Path, name: str, expected: list[Any], **options: Any) -> None:
    """A native loader, indexing and ``expected`` agree, value by value."""
    dataset = zenith.Parquet(path, columns=[name], **options)
    assert [bare(sample[name]) for sample in dataset.__getitems__(range(len(dataset)))] == expected
    assert batched(dataset, name) == expected
    assert bare(dataset[-1][name]) == expected[-1]


def reread(path: Path, name: str, written: pa.Array) -> pa.ChunkedArray | pa.Array:
    """What pyarrow reads; it makes days of ``date64``, which the file keeps as days and its schema as milliseconds."""
    if pa.types.is_date64(written.type):
        assert zenith.Parquet(path, columns=[name]).schema[0].unit == "date64[ms]"
        return written
    return pq.read_table(path)[name]


@pytest.mark.parametrize("name", COLUMNS)
def test_every_type(tmp_path: Path, name: str) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({name: COLUMNS[name]}), path, row_group_size=300)
    check(path, name, plain(reread(path, name, COLUMNS[name])))


@pytest.mark.parametrize("name", [name for name in COLUMNS if name not in ("fixed_list", "matrix")])
def test_every_type_with_nulls(tmp_path: Path, name: str) -> None:
    """Without a value for nulls they are an error that names the row; with one it stands in their place."""
    array = COLUMNS[name]
    missing = np.arange(ROWS) % 13 == 12
    if pa.types.is_string_view(array.type):
        array = pa.array(
            [None if gap else value for gap, value in zip(missing, array.to_pylist(), strict=True)], array.type
        )
    else:
        array = array.take(pa.array([None if gap else i for i, gap in enumerate(missing)], pa.int64()))
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({name: array}), path, row_group_size=300)
    with pytest.raises(zenith.CorruptError, match=r"row 12.*null"):
        batched(zenith.Parquet(path, columns=[name]), name)
    read = plain(reread(path, name, array))
    kind = array.type.value_type if pa.types.is_dictionary(array.type) else array.type
    is_bytes = pa.types.is_binary(kind) or pa.types.is_fixed_size_binary(kind)
    textual = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    fill: Any = "gap" if textual or is_bytes else (1 if kind != pa.bool_() else True)
    stands: Any = b"gap" if is_bytes else [] if pa.types.is_list(kind) or pa.types.is_large_list(kind) else fill
    assert sum(value is None for value in read) == missing.sum()
    check(path, name, [stands if value is None else value for value in read], nulls={name: fill})


def test_missing_lists_of_fixed_size_and_missing_items(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"l": pa.array([[1, 2], None, [3, None]], pa.list_(pa.int32(), 2))}), path)
    check(path, "l", [[1, 2], [-1, -1], [3, -1]], nulls={"l": -1})


def test_int96(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    content = pa.table({"t": pa.array([i * 10**15 + i for i in range(-900, 900)], pa.timestamp("ns"))})
    pq.write_table(content, path, use_deprecated_int96_timestamps=True, row_group_size=300)
    assert "int96" in str(pq.ParquetFile(path).schema)
    check(path, "t", content["t"].cast(pa.int64()).to_pylist())


def test_lists_padded(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"l": COLUMNS["list"], "c": COLUMNS["coded_list"]}), path, row_group_size=300)
    expected = [value + [-1] * (6 - len(value)) for value in COLUMNS["list"].to_pylist()]
    check(path, "l", expected, ragged="pad", pad_value=-1, pad_length=6)
    check(path, "c", COLUMNS["coded_list"].to_pylist(), ragged="pad", pad_length=2)
    with pytest.raises(zenith.ZenithError, match="pad_length"):
        batched(zenith.Parquet(path, columns=["l"], ragged="pad", pad_length=3), "l")


def test_decimals(tmp_path: Path) -> None:
    values = [Decimal(i * 7919) / 1000 for i in range(-500, 500)]
    for number, kind in enumerate(
        (pa.decimal128(9, 3), pa.decimal128(18, 3), pa.decimal128(38, 3), pa.decimal256(60, 3))
    ):
        path = tmp_path / f"{number}.parquet"
        pq.write_table(pa.table({"d": pa.array(values, kind)}), path, store_decimal_as_integer=number < 2)
        check(path, "d", [float(value) for value in values], decimals="float64")
        with pytest.raises(zenith.UnsupportedError, match="decimals"):
            zenith.Parquet(path)
    pq.write_table(pa.table({"d": pa.array([Decimal(2**63)], pa.decimal128(30, 0))}), tmp_path / "x.parquet")
    with pytest.raises(zenith.CorruptError, match="9223372036854775808"):
        zenith.Parquet(tmp_path / "x.parquet")[0]


def test_members_of_structs(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    rows = [{"a": i, "deep": {"text": f"t{i}", "list": [i] * (i % 3)}} for i in range(ROWS)]
    content = pa.table({"s": rows, "id": range(ROWS)})
    pq.write_table(content, path, row_group_size=300)
    dataset = zenith.Parquet(path)
    assert [info.name for info in dataset.schema] == ["s.a", "s.deep.text", "s.deep.list", "id"]
    check(path, "s.a", [row["a"] for row in rows])
    check(path, "s.deep.text", [row["deep"]["text"] for row in rows])
    check(path, "s.deep.list", [row["deep"]["list"] for row in rows])
    pq.write_table(pa.table({"s": pa.array([{"a": 1}, None, {"a": None}], pa.struct({"a": pa.int32()}))}), path)
    check(path, "s.a", [1, 9, 9], nulls={"s.a": 9})


def test_maps_and_deeper_nesting_are_objects(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    rows = [[[i, None], [], [i + 1]] for i in range(50)]
    pq.write_table(pa.table({"n": pa.array(rows, pa.list_(pa.list_(pa.int32())))}), path)
    check(path, "n", rows)
    words = [[f"w{k}" for k in range(i % 4)] for i in range(50)]
    pq.write_table(pa.table({"n": words}), path)
    check(path, "n", words)


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("codec", ["none", "snappy", "zstd", "gzip", "lz4", "brotli"])
def test_codecs_and_page_versions(tmp_path: Path, codec: str, version: str) -> None:
    names = ["int32", "f32", "f64", "bool", "text", "coded_text", "list", "fixed_list", "f16", "ts_us", "uint64"]
    content = pa.table({name: COLUMNS[name] for name in names})
    gaps = pa.array([None if i % 5 == 2 else i for i in range(ROWS)], pa.int64())
    content = content.append_column("gaps", gaps)
    expected = {
        **{name: plain(COLUMNS[name]) for name in names},
        "gaps": [-1 if v is None else v for v in gaps.to_pylist()],
    }
    for number, options in enumerate(
        (
            {},
            {"use_dictionary": False, "data_page_size": 500},
            {"write_page_checksum": True, "write_page_index": True, "row_group_size": 100},
            {"use_dictionary": False, "use_byte_stream_split": ["f32", "f64"]},
            {"use_dictionary": False, "column_encoding": {"int32": "DELTA_BINARY_PACKED", "text": "DELTA_BYTE_ARRAY"}},
        )
    ):
        path = tmp_path / f"{number}.parquet"
        pq.write_table(content, path, compression=codec, data_page_version=version, **options)
        assert pq.read_table(path).equals(content)
        dataset = zenith.Parquet(path, nulls={"gaps": -1})
        samples = dataset.__getitems__(range(ROWS))
        collected: dict[str, list[Any]] = {name: [] for name in expected}
        for batch in DataLoader(dataset, batch_size=99, num_workers=1):
            for name, values in batch.items():
                collected[name].extend(bare(value) for value in values)
        for name, values in expected.items():
            assert [bare(sample[name]) for sample in samples] == values, (name, options)
            assert collected[name] == values, (name, options)


@pytest.mark.parametrize("codec", ["none", "zstd"])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_a_flipped_bit_under_a_checksum_is_an_error(tmp_path: Path, codec: str, version: str) -> None:
    """One bit in the body of a page, for columns that the fast path reads and for such that it does not."""
    path = tmp_path / "x.parquet"
    names = ["f32", "text", "list"]
    content = pa.table({name: COLUMNS[name] for name in names})
    pq.write_table(
        content, path, compression=codec, data_page_version=version, write_page_checksum=True, use_dictionary=False
    )
    sound = path.read_bytes()
    meta = pq.ParquetFile(path).metadata.row_group(0)
    for at in range(meta.num_columns):
        chunk = meta.column(at)
        name = chunk.path_in_schema.split(".")[0]
        assert len(batched(zenith.Parquet(path, columns=[name]), name, workers=0)) == ROWS
        for offset in (chunk.total_compressed_size // 2, chunk.total_compressed_size - 1):
            damaged = bytearray(sound)
            damaged[chunk.data_page_offset + offset] ^= 4
            path.write_bytes(damaged)
            with pytest.raises(zenith.CorruptError):
                batched(zenith.Parquet(path, columns=[name]), name, workers=0)
        path.write_bytes(sound)
