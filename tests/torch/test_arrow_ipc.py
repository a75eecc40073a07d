"""Native batches of Arrow IPC files and streams against pyarrow and against ``ds[i]``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
import zenith
from pyarrow import feather
from zenith_torch import DataLoader

STACK = {"x": ["f0", "f1", "f2", "f3", "f4"], "y": "id"}
KINDS = ["file", "stream", "file-zstd", "feather-lz4"]


def write(table: pa.Table, folder: Path, kind: str, batch_rows: int = 700) -> Path:
    """Writes ``table`` in record batches of ``batch_rows`` rows."""
    if kind == "feather-lz4":
        path = folder / "table.feather"
        feather.write_feather(table, str(path), compression="lz4", chunksize=batch_rows)
        return path
    path = folder / ("table.arrows" if kind == "stream" else "table.arrow")
    options = pa.ipc.IpcWriteOptions(compression="zstd" if kind == "file-zstd" else None)
    opener = pa.ipc.new_stream if kind == "stream" else pa.ipc.new_file
    with opener(str(path), table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=batch_rows)
    return path


@pytest.fixture(params=KINDS)
def path(request: pytest.FixtureRequest, tmp_path: Path, parquet_table: pa.Table) -> Path:
    return write(parquet_table, tmp_path, request.param)


def features(table: pa.Table) -> np.ndarray:
    return np.stack([table[name].to_numpy() for name in STACK["x"]], axis=1)


def test_file_order_is_the_table(path: Path, parquet_table: pa.Table) -> None:
    dataset = zenith.ArrowIpc(path, stack=STACK)
    assert len(dataset) == len(parquet_table)
    batches = list(DataLoader(dataset, batch_size=64, num_workers=2))
    assert torch.equal(torch.cat([b["y"] for b in batches]), torch.arange(len(parquet_table)))
    np.testing.assert_array_equal(torch.cat([b["x"] for b in batches]).numpy(), features(parquet_table))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_shuffled_epoch_is_a_permutation_with_rows_intact(path: Path, parquet_table: pa.Table, workers: int) -> None:
    dataset = zenith.ArrowIpc(path, stack=STACK)
    batches = list(DataLoader(dataset, batch_size=100, shuffle=True, seed=5, num_workers=workers))
    order = torch.cat([b["y"] for b in batches]).numpy()
    np.testing.assert_array_equal(np.sort(order), np.arange(len(parquet_table)))
    np.testing.assert_array_equal(torch.cat([b["x"] for b in batches]).numpy(), features(parquet_table)[order])


def test_native_batches_are_what_indexing_gives(path: Path) -> None:
    dataset = zenith.ArrowIpc(path, stack=STACK)
    batch = next(iter(DataLoader(dataset, batch_size=50)))
    samples = dataset.__getitems__(range(50))
    np.testing.assert_array_equal(batch["x"].numpy(), np.stack([s["x"] for s in samples]))
    np.testing.assert_array_equal(batch["y"].numpy(), np.stack([s["y"] for s in samples]))
    assert dataset[-1]["y"] == len(dataset) - 1


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_column_is_pyarrows(tmp_path: Path, kind: str) -> None:
    rows = 500
    table = pa.table(
        {
            "flag": pa.array([i % 3 == 0 for i in range(rows)]),
            "small": pa.array(np.arange(rows) % 200, pa.uint8()),
            "half": pa.array(np.arange(rows, dtype=np.float16)),
            "holes": pa.array([None if i % 5 == 0 else i for i in range(rows)], pa.int32()),
            "when": pa.array(np.arange(rows), pa.timestamp("us")),
            "text": pa.array([f"row {i}" for i in range(rows)]),
            "code": pa.array([f"kind {i % 4}" for i in range(rows)]).dictionary_encode(),
            "items": pa.array([list(range(i % 4)) for i in range(rows)], pa.list_(pa.int64())),
            "pair": pa.array([[i, i + 0.5] for i in range(rows)], pa.list_(pa.float32(), 2)),
        }
    )
    dataset = zenith.ArrowIpc(write(table, tmp_path, kind, batch_rows=128), nulls={"holes": -1})
    samples = dataset.__getitems__(range(rows))
    loaded = next(iter(DataLoader(dataset, batch_size=rows)))
    for name in ["flag", "small", "half"]:
        expected = table[name].to_numpy()
        np.testing.assert_array_equal(np.stack([s[name] for s in samples]), expected)
        np.testing.assert_array_equal(loaded[name].numpy(), expected)
    holes = table["holes"].fill_null(-1).to_numpy()
    np.testing.assert_array_equal(loaded["holes"].numpy(), holes)
    np.testing.assert_array_equal(loaded["when"].numpy(), table["when"].cast(pa.int64()).to_numpy())
    np.testing.assert_array_equal(loaded["pair"].numpy(), np.array(table["pair"].to_pylist(), np.float32))
    assert [s["text"] for s in samples] == table["text"].to_pylist()
    assert list(loaded["text"]) == table["text"].to_pylist()
    assert list(loaded["code"]) == table["code"].to_pylist()
    assert [s["items"].tolist() for s in samples] == table["items"].to_pylist()


@pytest.mark.parametrize("name", ["t.arrow", "t.arrows", "t.feather", "t.ipc"])
def test_the_name_tells_the_format(tmp_path: Path, parquet_table: pa.Table, name: str) -> None:
    path = write(parquet_table, tmp_path, "file").rename(tmp_path / name)
    dataset = zenith.open(path)
    assert isinstance(dataset, zenith.ArrowIpc)
    assert len(dataset) == len(parquet_table)


@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_file_is_a_typed_error(tmp_path: Path, parquet_table: pa.Table, kind: str) -> None:
    path = write(parquet_table, tmp_path, kind)
    whole = path.read_bytes()
    for length in (0, 5, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(zenith.CorruptError):
            zenith.ArrowIpc(path)


def test_lists_of_codes(tmp_path: Path) -> None:
    """Lists whose items are codes of a dictionary of numbers."""
    values = pa.DictionaryArray.from_arrays(pa.array([0, 1, None, 1], pa.int8()), pa.array([5, -7]))
    path = write(pa.table({"l": pa.ListArray.from_arrays([0, 2, 2, 4], values)}), tmp_path, "file")
    dataset = zenith.ArrowIpc(path, nulls={"l": 9})
    expected = [[5, -7], [], [9, -7]]
    assert [sample["l"].tolist() for sample in dataset.__getitems__([0, 1, 2])] == expected
    assert [value.tolist() for batch in DataLoader(dataset, batch_size=2) for value in batch["l"]] == expected
