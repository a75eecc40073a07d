"""Lists of differing length as nested tensors, against pyarrow."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest
import torch
import zenith
from zenith_torch import DataLoader

ROWS = 1003


@pytest.fixture(scope="module")
def table() -> pa.Table:
    random = np.random.default_rng(5)
    lengths = random.integers(0, 9, ROWS)
    lists = [random.integers(-1000, 1000, n) for n in lengths]
    return pa.table(
        {
            "id": np.arange(ROWS),
            "ints": pa.array(lists, pa.list_(pa.int16())),
            "floats": pa.array([values / 7 for values in lists], pa.large_list(pa.float32())),
        }
    )


@pytest.fixture(scope="module", params=["parquet", "arrow"])
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, table: pa.Table) -> Path:
    path = tmp_path_factory.mktemp("lists") / f"a.{request.param}"
    if request.param == "parquet":
        pq.write_table(table, path, row_group_size=100)
    else:
        with pa.ipc.new_file(path, table.schema) as file:
            file.write_table(table, max_chunksize=100)
    return path


def check(batch: dict, table: pa.Table) -> None:
    expected = table.take(pa.array(batch["id"].numpy()))
    for name, dtype in (("ints", torch.int16), ("floats", torch.float32)):
        nested = batch[name]
        assert nested.layout == torch.jagged
        assert nested.dtype == dtype
        assert nested.size(0) == len(expected)
        column = expected[name].combine_chunks()
        np.testing.assert_array_equal(nested.values().numpy(), column.flatten().to_numpy())
        lengths = column.value_lengths().to_numpy()
        np.testing.assert_array_equal(nested.offsets().numpy(), np.concatenate([[0], np.cumsum(lengths)]))
        for row, values in zip(nested.unbind(), expected[name].to_pylist(), strict=True):
            np.testing.assert_array_equal(row.numpy(), np.array(values, dtype=row.numpy().dtype))


@pytest.mark.parametrize("options", [{}, {"shuffle": True, "seed": 1, "num_workers": 2}])
def test_a_batch_is_one_nested_tensor(path: Path, table: pa.Table, options: dict) -> None:
    dataset = zenith.open(path, ragged="jagged")
    seen = 0
    for batch in DataLoader(dataset, batch_size=64, **options):
        check(batch, table)
        seen += len(batch["id"])
    assert seen == ROWS


def test_a_sample_is_a_plain_array(path: Path, table: pa.Table) -> None:
    dataset = zenith.open(path, ragged="jagged")
    assert [info.kind for info in dataset.schema] == ["dense", "jagged", "jagged"]
    for index in (0, 5, ROWS - 1):
        sample = dataset[index]
        assert isinstance(sample["ints"], np.ndarray)
        assert sample["ints"].tolist() == table["ints"][index].as_py()
        assert sample["ints"].dtype == np.int16


def test_views_and_pickles_stay_jagged(path: Path, table: pa.Table) -> None:
    dataset = zenith.open(path, ragged="jagged")
    for other in (pickle.loads(pickle.dumps(dataset)), dataset.select([9, 3, 500]), dataset.split(0.3)[0]):
        check(next(iter(DataLoader(other, batch_size=16))), table)


def test_lists_that_are_all_empty(tmp_path: Path) -> None:
    pq.write_table(pa.table({"v": pa.array([[], [], []], pa.list_(pa.int64()))}), tmp_path / "a.parquet")
    batch = next(iter(DataLoader(zenith.Parquet(tmp_path / "a.parquet", ragged="jagged"), batch_size=3)))
    assert batch["v"].offsets().tolist() == [0, 0, 0, 0]


def test_gradients_flow_through_a_batch(path: Path) -> None:
    batch = next(iter(DataLoader(zenith.open(path, ragged="jagged", dtypes={"ints": "int64"}), batch_size=8)))
    table = torch.nn.Embedding(2000, 4)
    embedded = torch.nested.nested_tensor_from_jagged(table(batch["ints"].values() + 1000), batch["ints"].offsets())
    embedded.values().sum().backward()
    assert table.weight.grad is not None
