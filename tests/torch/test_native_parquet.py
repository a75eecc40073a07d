"""Native batches of Parquet files against pyarrow and against ``ds[i]``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
import zenith
from torch.utils.data import DistributedSampler, RandomSampler, SequentialSampler
from zenith_torch import DataLoader, PlanSampler

STACK = {"x": ["f0", "f1", "f2", "f3", "f4"], "y": "id"}


@pytest.fixture
def dataset(parquet_files: Path) -> zenith.Parquet:
    return zenith.Parquet(parquet_files, stack=STACK)


def features(table: pa.Table) -> np.ndarray:
    return np.stack([table[name].to_numpy() for name in STACK["x"]], axis=1)


def ids(loader: DataLoader) -> list[int]:
    return [int(i) for batch in loader for i in batch["y"]]


def test_file_order_is_the_table(dataset: zenith.Parquet, parquet_table: pa.Table) -> None:
    batches = list(DataLoader(dataset, batch_size=64, num_workers=2))
    assert [len(batch["y"]) for batch in batches] == [64] * 156 + [23]
    assert torch.equal(torch.cat([b["y"] for b in batches]), torch.arange(len(parquet_table)))
    np.testing.assert_array_equal(torch.cat([b["x"] for b in batches]).numpy(), features(parquet_table))


@pytest.mark.parametrize("workers", [0, 1, 2, 4])
@pytest.mark.parametrize("shuffle_bytes", [1 << 28, 64 << 10])
def test_a_shuffled_epoch_is_a_permutation_with_rows_intact(
    dataset: zenith.Parquet, parquet_table: pa.Table, workers: int, shuffle_bytes: int
) -> None:
    loader = DataLoader(dataset, batch_size=100, shuffle=True, seed=5, num_workers=workers, shuffle_bytes=shuffle_bytes)
    batches = list(loader)
    order = torch.cat([b["y"] for b in batches]).numpy()
    np.testing.assert_array_equal(np.sort(order), np.arange(len(parquet_table)))
    assert not np.array_equal(order, np.arange(len(parquet_table)))
    np.testing.assert_array_equal(torch.cat([b["x"] for b in batches]).numpy(), features(parquet_table)[order])
    expected = list(PlanSampler(dataset, seed=5, shuffle_bytes=shuffle_bytes))
    assert order.tolist() == expected, "the order does not depend on the workers and is the sampler's"
    assert loader.stats()["samples"] == len(parquet_table)


def test_native_batches_are_what_indexing_gives(dataset: zenith.Parquet) -> None:
    order = list(PlanSampler(dataset, seed=1))[:50]
    batch = next(iter(DataLoader(dataset, batch_size=50, shuffle=True, seed=1)))
    samples = dataset.__getitems__(order)
    np.testing.assert_array_equal(batch["x"].numpy(), np.stack([s["x"] for s in samples]))
    np.testing.assert_array_equal(batch["y"].numpy(), np.stack([s["y"] for s in samples]))
    assert dataset[-1]["y"] == len(dataset) - 1
    assert dataset[-1]["y"].shape == ()
    with pytest.raises(IndexError):
        dataset[len(dataset)]


def test_epochs_differ_and_set_epoch_repeats_them(dataset: zenith.Parquet) -> None:
    loader = DataLoader(dataset, batch_size=500, shuffle=True, seed=9)
    first, second = ids(loader), ids(loader)
    assert first != second
    assert sorted(first) == sorted(second)
    loader.set_epoch(0)
    assert ids(loader) == first
    assert ids(loader) == first, "an epoch that was set does not advance by itself"
    loader.set_epoch(1)
    assert ids(loader) == second


def test_without_a_seed_the_order_follows_torch(dataset: zenith.Parquet) -> None:
    def order() -> list[int]:
        torch.manual_seed(3)
        return ids(DataLoader(dataset, batch_size=500, shuffle=True))

    assert order() == order()


@pytest.mark.parametrize("world", [2, 3, 8])
def test_ranks_share_the_epoch(dataset: zenith.Parquet, world: int) -> None:
    def of(rank: int, **options: object) -> list[int]:
        loader = DataLoader(
            dataset, batch_size=64, shuffle=True, seed=2, rank=rank, world_size=world, shuffle_bytes=64 << 10, **options
        )
        found = ids(loader)
        assert len(loader) == -(-len(found) // 64)
        return found

    whole = ids(DataLoader(dataset, batch_size=64, shuffle=True, seed=2, shuffle_bytes=64 << 10))
    assert [of(r, tail="uneven") for r in range(world)] == [whole[r::world] for r in range(world)]
    padded = [of(rank) for rank in range(world)]
    assert {len(part) for part in padded} == {-(-len(dataset) // world)}
    repeated = whole + whole[: -len(whole) % world]
    assert padded == [repeated[r::world] for r in range(world)]
    dropped = [of(rank, drop_last=True) for rank in range(world)]
    assert {len(part) for part in dropped} == {len(dataset) // (64 * world) * 64}


def test_samplers_of_torch_become_plans(dataset: zenith.Parquet) -> None:
    sequential = DataLoader(dataset, batch_size=100, sampler=SequentialSampler(dataset))
    assert "native" in sequential.explain()
    assert ids(sequential) == list(range(len(dataset)))
    randomly = DataLoader(dataset, batch_size=100, sampler=RandomSampler(dataset))
    assert "native" in randomly.explain()
    assert sorted(ids(randomly)) == list(range(len(dataset)))
    shared = [
        DataLoader(dataset, batch_size=100, sampler=DistributedSampler(dataset, 2, rank, seed=4)) for rank in (0, 1)
    ]
    parts = [ids(loader) for loader in shared]
    assert len(parts[0]) == len(parts[1])
    assert set(parts[0]) | set(parts[1]) == set(range(len(dataset)))
    rebuilt = DataLoader(dataset, batch_size=100, sampler=DataLoader(dataset, shuffle=True, seed=8).sampler)
    assert "native" in rebuilt.explain()
    assert ids(rebuilt) == ids(DataLoader(dataset, batch_size=100, shuffle=True, seed=8))


def test_other_samplers_and_hooks_take_the_map_style_path(dataset: zenith.Parquet) -> None:
    with pytest.warns(UserWarning, match="index by index"):
        loader = DataLoader(dataset, batch_size=3, sampler=[5, 1, 9])
    assert [b["y"].tolist() for b in loader] == [[5, 1, 9]]
    loader = DataLoader(dataset, batch_size=2, collate_fn=lambda samples: [int(s["y"]) for s in samples])
    assert next(iter(loader)) == [0, 1]
    assert "collate_fn" in loader.explain()


def test_tensors_are_aligned_writable_and_outlive_the_loader(dataset: zenith.Parquet) -> None:
    loader = DataLoader(dataset, batch_size=128, num_workers=2, shuffle=True, seed=0)
    kept = list(loader)
    copies = [{name: t.clone() for name, t in batch.items()} for batch in kept]
    assert all(t.data_ptr() % 64 == 0 for batch in kept for t in batch.values())
    del loader
    list(DataLoader(dataset, batch_size=128, num_workers=2))
    assert all(torch.equal(batch[n], copy[n]) for batch, copy in zip(kept, copies, strict=True) for n in batch)
    kept[0]["x"].zero_()
    assert torch.equal(kept[1]["x"], copies[1]["x"])


def test_columns_as_fields_tuples_and_map_batch(parquet_files: Path, parquet_table: pa.Table) -> None:
    dataset = zenith.Parquet(parquet_files, columns=["label", "f1"], dtypes={"label": "int64"})
    assert [(f.name, f.dtype, f.shape) for f in dataset.schema] == [("label", "int64", ()), ("f1", "float32", ())]
    batch = next(iter(DataLoader(dataset, batch_size=7, output="tuple", map_batch=lambda b: (*b, "mapped"))))
    assert batch[2] == "mapped"
    assert batch[0].dtype == torch.int64
    np.testing.assert_array_equal(batch[1].numpy(), parquet_table["f1"].to_numpy()[:7])


def test_a_path_is_enough(parquet_files: Path) -> None:
    glob = str(parquet_files / "*.parquet")
    for loader in (DataLoader(glob, batch_size=10), DataLoader(source=glob, batch_size=10)):
        assert loader.source is None
        assert isinstance(loader.dataset, zenith.Parquet)
        assert next(iter(loader))["id"].tolist() == list(range(10))
    with pytest.raises(TypeError, match="not both"):
        DataLoader(glob, source=glob)


def test_an_empty_epoch_and_one_sample(tmp_path: Path, parquet_table: pa.Table) -> None:
    import pyarrow.parquet as pq

    for rows in (0, 1):
        path = tmp_path / f"{rows}.parquet"
        pq.write_table(parquet_table.slice(0, rows), path)
        loader = DataLoader(path, batch_size=4, shuffle=True, num_workers=2)
        assert len(loader) == rows
        assert [b["id"].tolist() for b in loader] == [[0]] * rows
