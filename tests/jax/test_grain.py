"""Grain reads Zenith datasets as they are, and Orbax saves where a loader stands beside the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grain
import numpy as np
import orbax.checkpoint as ocp
import pyarrow as pa
import pytest
import zenith
from zenith_jax import DataLoader, checkpoint

from tests.jax.meshes import by_rows, flat, ids

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")


@pytest.fixture(scope="module")
def dataset(parquet_files: Path) -> zenith.Dataset:
    return zenith.Parquet(parquet_files, stack={"x": ["f0", "f1"], "id": "id"})


def test_a_dataset_is_a_source_of_grain(dataset: zenith.Dataset, parquet_table: pa.Table) -> None:
    pipeline = (
        grain.MapDataset.source(dataset).shuffle(seed=1)[:500].map(lambda s: {**s, "twice": 2 * s["x"]}).batch(50)
    )
    batches = [pipeline[index] for index in range(len(pipeline))]
    rows = np.concatenate([batch["id"] for batch in batches])
    assert len(set(rows.tolist())) == 500
    expected = np.stack([parquet_table["f0"].to_numpy(), parquet_table["f1"].to_numpy()], axis=1)[rows]
    np.testing.assert_array_equal(np.concatenate([batch["twice"] for batch in batches]), 2 * expected)
    iterator = iter(pipeline.to_iter_dataset())
    for _ in range(3):
        next(iterator)
    state = iterator.get_state()
    other = iter(pipeline.to_iter_dataset())
    other.set_state(state)
    np.testing.assert_array_equal(next(other)["id"], batches[3]["id"])


def loaders(dataset: zenith.Dataset) -> list[DataLoader]:
    samples = [{"id": index} for index in range(1000)]
    return [DataLoader(dataset, 100, shuffle=True, seed=2), DataLoader(samples, 100, shuffle=True, seed=2)]


def test_iterators_have_the_interface_of_grains(dataset: zenith.Dataset) -> None:
    for loader in loaders(dataset):
        whole, second = ids(loader), ids(loader)
        loader.load_state_dict({})
        one, other = iter(loader), iter(loader)
        for _ in range(5):
            next(one)
        state = one.get_state()
        assert (state["epoch"], state["position"]) == (0, 500)
        assert other.get_state()["position"] == 0, "each tells of itself"
        other.set_state(state)
        assert ids(other) == ids(one) == whole[5:]
        assert (other.get_state()["epoch"], other.get_state()["position"]) == (1, 0)
        one.set_state(other.get_state())
        assert ids(one) == second


@pytest.mark.parametrize("of_iterator", [False, True])
def test_orbax_saves_a_loader_and_another_mesh_goes_on(
    dataset: zenith.Dataset, tmp_path: Path, of_iterator: bool
) -> None:
    before, _ = loaders(dataset)
    whole = ids(before)
    before.load_state_dict({})
    iterator = iter(before)
    for _ in range(4):
        next(iterator)
    model = {"w": np.arange(3.0)}
    with ocp.CheckpointManager(tmp_path / "run") as manager:
        saved: Any = iterator if of_iterator else before
        save = {"model": ocp.args.StandardSave(model), "data": checkpoint.CheckpointSave(saved)}
        manager.save(4, args=ocp.args.Composite(**save))
        next(iterator)
        manager.wait_until_finished()
        after = DataLoader(dataset, 200, sharding=by_rows(2))
        item: Any = iter(after) if of_iterator else after
        restore = {"model": ocp.args.StandardRestore(model), "data": checkpoint.CheckpointRestore(item)}
        restored = manager.restore(4, args=ocp.args.Composite(**restore))
    assert restored["data"] is item
    np.testing.assert_array_equal(restored["model"]["w"], model["w"])
    assert sorted(ids(item)[0]) == sorted(flat(whole[4:6]))
    with pytest.raises(zenith.StateError, match="no checkpoint of a loader"):
        checkpoint.CheckpointHandler().restore(tmp_path, args=checkpoint.CheckpointRestore(item))
