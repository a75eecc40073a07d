"""Views of datasets, ours and torch's, against numpy and torch's own DataLoader."""

from __future__ import annotations

import itertools
import json
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import zenith
from torch.utils.data import ConcatDataset, Subset, random_split
from zenith_torch import DataLoader, PlanSampler

STACK = {"x": ["f0", "f1"], "y": "id"}


@pytest.fixture(scope="module")
def dataset(parquet_files: Path) -> zenith.Parquet:
    return zenith.Parquet(parquet_files, stack=STACK)


@pytest.fixture(scope="module")
def scattered(dataset: zenith.Parquet) -> list[int]:
    return np.random.default_rng(0).permutation(len(dataset))[:3000].tolist()


def ids(loader: Any) -> list[int]:
    return [int(i) for batch in loader for i in batch["y"]]


def assert_same_batches(ours: Any, theirs: Any) -> None:
    for one, other in zip(list(ours), list(theirs), strict=True):
        assert list(one) == list(other)
        assert all(one[name].dtype == other[name].dtype and torch.equal(one[name], other[name]) for name in one)


def check_native(view: Any, expected: list[int], **options: Any) -> None:
    """Unshuffled it is torch's loader; shuffled it is a permutation, resumable anywhere, and its sampler's order."""
    assert len(view) == len(expected)
    loader = DataLoader(view, batch_size=64, num_workers=2)
    assert loader.dataset is view
    assert loader.explain().startswith("native"), loader.explain()
    assert ids(loader) == expected
    assert_same_batches(loader, torch.utils.data.DataLoader(view, batch_size=64))
    check_shuffled(view, expected)


def check_shuffled(view: Any, expected: list[int]) -> None:
    options: dict[str, Any] = {"batch_size": 64, "shuffle": True, "seed": 3, "shuffle_bytes": 64 << 10}
    loader = DataLoader(view, num_workers=2, **options)
    assert loader.explain().startswith("native"), loader.explain()
    whole = ids(loader)
    assert sorted(whole) == sorted(expected)
    assert whole != expected
    order = list(PlanSampler(view, seed=3, shuffle_bytes=64 << 10))
    assert [expected[i] for i in order] == whole
    resumed = DataLoader(view, **options)
    iterator = iter(resumed)
    head = ids(itertools.islice(iterator, 5))
    again = DataLoader(pickle.loads(pickle.dumps(view)), **options)
    again.load_state_dict(json.loads(json.dumps(resumed.state_dict())))
    assert head + ids(again) == whole
    ranks = [ids(DataLoader(view, rank=rank, world_size=2, tail="uneven", **options)) for rank in (0, 1)]
    assert ranks == [whole[0::2], whole[1::2]]


def test_split_is_disjoint_complete_and_native(dataset: zenith.Parquet) -> None:
    parts = dataset.split(0.9, seed=1)
    found = [[int(sample["y"]) for sample in part.__getitems__(range(len(part)))] for part in parts]
    assert [len(part) for part in parts] == [round(0.9 * len(dataset)), len(dataset) - round(0.9 * len(dataset))]
    assert sorted(found[0] + found[1]) == list(range(len(dataset)))
    assert found == [sorted(part) for part in found]
    for part, expected in zip(parts, found, strict=True):
        check_native(part, expected)
    assert ids(DataLoader(dataset.split(0.9, seed=1)[1], batch_size=100)) == found[1]
    assert ids(DataLoader(dataset.split(0.9, seed=2)[1], batch_size=100)) != found[1]
    assert set(ids(DataLoader(dataset.split(0.5, seed=1)[0], batch_size=100))) < set(found[0])
    with pytest.raises(ValueError, match="fraction"):
        dataset.split(1.5)


@pytest.mark.parametrize(
    "indices",
    [
        range(100, 5000, 3),
        range(9000, 200, -1),
        np.arange(5000, dtype=np.uint16),
        np.arange(-2000, 0),
        [*range(4000, 6000), *range(1000)],
        list(range(800)) * 3,
    ],
    ids=["sorted", "backwards", "array", "negative", "two runs", "repeated"],
)
def test_select_in_the_order_given(dataset: zenith.Parquet, indices: Any) -> None:
    expected = [int(i) % len(dataset) for i in indices]
    view = dataset.select(indices)
    check_native(view, expected)
    assert int(view[-1]["y"]) == expected[-1]
    assert len(pickle.dumps(view)) < 100 * len(expected)


def test_small_selections(dataset: zenith.Parquet) -> None:
    view = dataset.select([5, 1, 9])
    assert [int(sample["y"]) for sample in (view[0], view[1], view[2], view[-1])] == [5, 1, 9, 9]
    assert ids(DataLoader(view, batch_size=2)) == [5, 1, 9]
    assert len(dataset.select([])) == 0
    assert list(DataLoader(dataset.select([]), batch_size=4)) == []
    assert ids(DataLoader(dataset.take(700), batch_size=64)) == list(range(700))
    assert len(dataset.take(10**9)) == len(dataset)
    for wrong in ([len(dataset)], [-len(dataset) - 1]):
        with pytest.raises(IndexError, match="out of range"):
            dataset.select(wrong)
    for wrong in ([0.5], [[1, 2]], np.array([True, False])):
        with pytest.raises(TypeError, match="indices"):
            dataset.select(wrong)
    with pytest.raises(ValueError, match="count"):
        dataset.take(-1)


def test_a_selection_that_jumps_between_blocks(dataset: zenith.Parquet, scattered: list[int]) -> None:
    for view in (dataset.select(scattered), Subset(dataset, scattered)):
        assert "the selection's own" in DataLoader(view).explain()
        check_native(view, scattered)
        with pytest.warns(UserWarning, match="jumps between blocks"):
            loader = DataLoader(view, batch_size=64, shuffle_bytes=10_000)
        assert "index by index" in loader.explain()
        assert_same_batches(loader, torch.utils.data.DataLoader(view, batch_size=64))
        assert ids(loader) == scattered
        with pytest.warns(UserWarning, match="jumps between blocks"):
            rank = DataLoader(view, batch_size=64, rank=1, world_size=2, shuffle_bytes=10_000)
        assert ids(rank) == scattered[1::2]
        check_shuffled(view, scattered)
    inner = dataset.select(scattered)
    assert ids(DataLoader(inner.select(np.argsort(scattered)), batch_size=64)) == sorted(scattered)
    first, second = inner.split(0.3)
    assert sorted(int(s["y"]) for part in (first, second) for s in part.__getitems__(range(len(part)))) == sorted(
        scattered
    )


@pytest.mark.parametrize("world", [1, 2, 3, 8])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_selection_that_jumps_is_read_block_by_block(
    dataset: zenith.Parquet, scattered: list[int], world: int, workers: int
) -> None:
    view = dataset.select(scattered)
    repeated = scattered + scattered[: -len(scattered) % world]
    for rank in range(world):
        options = {"rank": rank, "world_size": world, "num_workers": workers}
        loader = DataLoader(view, batch_size=50, **options)
        iterator = iter(loader)
        head = [int(i) for _ in range(3) for i in next(iterator)["y"]]
        state = loader.state_dict()
        assert head + [int(i) for batch in iterator for i in batch["y"]] == repeated[rank::world]
        assert loader.stats()["blocks"] <= 17 + world, "no block is decoded twice, but for repeated samples"
        rest = DataLoader(view, batch_size=33, **options)
        rest.load_state_dict(state)
        assert head + ids(rest) == repeated[rank::world]


def test_concat(dataset: zenith.Parquet, parquet_files: Path) -> None:
    size = len(dataset)
    first, second = dataset.split(0.2, seed=0)
    alone = ids(DataLoader(first, batch_size=100)) + ids(DataLoader(second, batch_size=100))
    check_native(first.concat(second), alone)
    check_native(zenith.concat([dataset, dataset.take(300), dataset]), [*range(size), *range(300), *range(size)])
    with pytest.raises(zenith.InvalidArgumentError, match="x"):
        dataset.concat(zenith.Parquet(parquet_files, stack={**STACK, "x": ["f0", "f1", "f2"]}))
    with pytest.raises(TypeError):
        dataset.concat([1, 2])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least one"):
        zenith.concat([])


def test_torch_views_are_recognised(dataset: zenith.Parquet) -> None:
    subset = Subset(dataset, range(1000, 7000))
    check_native(subset, list(range(1000, 7000)))
    nested = Subset(subset, list(range(0, 6000, 2)))
    check_native(nested, list(range(1000, 7000, 2)))
    both = ConcatDataset([nested, dataset.take(50), Subset(ConcatDataset([dataset, subset]), range(9000, 12_000))])
    expected = [*range(1000, 7000, 2), *range(50), *range(9000, 10_007), *range(1000, 2993)]
    check_native(both, expected)
    parts = random_split(dataset, [0.8, 0.2], generator=torch.Generator().manual_seed(0))
    for part in parts:
        check_shuffled(part, list(part.indices))
    rebuilt = DataLoader(subset, batch_size=64, sampler=DataLoader(subset, shuffle=True, seed=3).sampler)
    assert rebuilt.explain().startswith("native")
    assert ids(rebuilt) == ids(DataLoader(subset, batch_size=64, shuffle=True, seed=3))


def test_what_torch_views_are_not_recognised(dataset: zenith.Parquet, parquet_files: Path) -> None:
    class Mapped(Subset):  # type: ignore[type-arg]
        def __getitems__(self, indices: list[int]) -> list[Any]:
            return [{"y": torch.tensor(-1)} for _ in indices]

    class Overriding(zenith.Parquet):
        def __getitem__(self, index: int) -> dict[str, Any]:
            return {"y": np.array(-1)}

    other = zenith.Parquet(parquet_files, columns=["label"])
    overriding = Overriding(parquet_files, stack=STACK)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for view, reason in (
            (Mapped(dataset, [1, 2]), "Mapped"),
            (Subset(overriding, [1, 2]), "overrides __getitem__"),
            (ConcatDataset([dataset, other]), "ConcatDataset differ"),
            (Subset(torch.utils.data.TensorDataset(torch.arange(5)), [1, 2]), "TensorDataset"),
        ):
            loader = DataLoader(view, batch_size=1)
            assert loader.explain().startswith("inline: "), loader.explain()
            assert reason in loader.explain()
    assert ids(DataLoader(Mapped(dataset, [1, 2]), batch_size=1)) == [-1, -1]
    with pytest.raises(TypeError, match="overrides __getitem__"):
        overriding.take(3)
    with pytest.raises(TypeError, match="Zenith dataset"):
        PlanSampler([1, 2, 3])


def test_views_pickle_and_have_fingerprints_and_a_repr(dataset: zenith.Parquet, scattered: list[int]) -> None:
    views = [
        dataset.take(10),
        dataset.select([3, 1]),
        dataset.select([1, 3]),
        dataset.select(scattered),
        *dataset.split(0.5),
        dataset.split(0.5, seed=1)[0],
        dataset.concat(dataset),
        dataset.take(10).concat(dataset),
        dataset.take(10).split(0.5)[0],
    ]
    assert len({dataset.fingerprint, *(view.fingerprint for view in views)}) == len(views) + 1
    assert dataset.take(3).fingerprint == dataset.select([0, 1, 2]).fingerprint
    for view in views:
        again = pickle.loads(pickle.dumps(view))
        assert type(again) is zenith.View
        assert (repr(again), again.fingerprint, len(again)) == (repr(view), view.fingerprint, len(view))
        assert int(again[-1]["y"]) == int(view[-1]["y"])
        assert again.schema == dataset.schema
    assert "split(0.5, seed=0)[1]" in repr(views[5])
    assert f"{len(dataset):,} samples" in repr(dataset.take(10**6))


def test_a_state_of_another_selection_is_refused(dataset: zenith.Parquet) -> None:
    first, second = dataset.split(0.5)
    state = DataLoader(first, batch_size=8, shuffle=True, seed=0).state_dict()
    with pytest.raises(zenith.StateError, match="fingerprint"):
        DataLoader(second, batch_size=8, shuffle=True, seed=0).load_state_dict(state)


def test_text_and_ragged_fields(tmp_path: Path) -> None:
    count = 5000
    table = pa.table(
        {"y": range(count), "s": [str(i) * (i % 7) for i in range(count)], "r": [[i] * (i % 3) for i in range(count)]}
    )
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=900)
    dataset = zenith.Parquet(tmp_path)
    view = ConcatDataset([dataset.split(0.3)[1], Subset(dataset, range(5, 3000, 2))])
    batch = next(iter(DataLoader(view, batch_size=len(view))))
    expected = ids(DataLoader(view, batch_size=100))
    assert batch["y"].tolist() == expected
    assert batch["s"] == [str(i) * (i % 7) for i in expected]
    samples = dataset.split(0.3)[1].__getitems__(range(50))
    assert [s["s"] for s in samples] == batch["s"][:50]


def test_random_windows_move_with_the_epoch(tokens_file: Path) -> None:
    dataset = zenith.Tokens(tokens_file, seq_len=16, random=True, seed=1)
    view = dataset.select([3, 8]).concat(dataset.take(2))
    loader = DataLoader(view, batch_size=4)
    for epoch in (0, 1):
        dataset.set_epoch(epoch)
        expected = np.stack([dataset[i]["x"] for i in (3, 8, 0, 1)])
        np.testing.assert_array_equal(next(iter(loader))["x"].numpy(), expected)
        view.set_epoch(epoch)
        np.testing.assert_array_equal(view[1]["x"], expected[1])
        loader.set_epoch(epoch + 1)
