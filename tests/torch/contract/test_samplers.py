"""DL-9, DL-11, DL-12, DL-21 and DL-22: samplers, the keys that they give, and how samples are asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from contract_support import CountingSampler, Keys, Numbers, Stream, error_of, identity, values
from torch.utils.data import (
    Dataset,
    RandomSampler,
    StackDataset,
    Subset,
    SubsetRandomSampler,
    WeightedRandomSampler,
    random_split,
)

Loader = type[torch.utils.data.DataLoader]
both = pytest.mark.parametrize("workers", [0, 1])


class ManyAtOnce(Dataset):
    """Has ``__getitems__``, and says which way it was asked."""

    def __init__(self, size: int = 4, extra: int = 0) -> None:
        self.size = size
        self.extra = extra

    def __getitem__(self, index: int) -> Any:
        return ("one", index)

    def __getitems__(self, indices: list[int]) -> list[Any]:
        return [("many", index) for index in indices] + ["extra"] * self.extra

    def __len__(self) -> int:
        return self.size


class NoneAtOnce(ManyAtOnce):
    __getitems__ = None  # type: ignore[assignment]


class Doubled(Subset):
    def __getitem__(self, index: int) -> Any:
        return 2 * super().__getitem__(index)


class Table(Dataset):
    """Bulk loading: a list of rows is one key."""

    def __getitem__(self, key: Any) -> Any:
        assert type(key) is list
        return {"rows": np.array(key), "name": "table", "pair": (np.float32(1), 2)}

    def __len__(self) -> int:
        return 6


@pytest.mark.parametrize("size", [True, False, 0, -1, 2.0, "2", np.int64(2)], ids=repr)
def test_dl_09_a_batch_size_that_is_no_positive_int(loader_class: Loader, size: Any) -> None:
    with pytest.raises(ValueError, match=f"^batch_size should be a positive integer value, but got batch_size={size}$"):
        loader_class(Numbers(3), batch_size=size)


@pytest.mark.parametrize("drop", [1, 0, "no", np.bool_(True)], ids=repr)
def test_dl_09_a_drop_last_that_is_no_bool(loader_class: Loader, drop: Any) -> None:
    with pytest.raises(ValueError, match=f"^drop_last should be a boolean value, but got drop_last={drop}$"):
        loader_class(Numbers(3), drop_last=drop)


@both
def test_dl_09_an_empty_dataset(loader_class: Loader, workers: int) -> None:
    with pytest.raises(ValueError, match=r"^num_samples should be a positive integer value, but got num_samples=0$"):
        loader_class(Numbers(0), shuffle=True, num_workers=workers)
    loader = loader_class(Numbers(0), num_workers=workers)
    assert len(loader) == 0
    assert values(loader) == []


@both
@pytest.mark.parametrize("keys", [range(3, 0, -1), [(0, "a"), (1, "b")], "xyz", np.arange(3)], ids=repr)
def test_dl_11_any_iterable_is_a_sampler_and_any_object_a_key(loader_class: Loader, keys: Any, workers: int) -> None:
    loader = loader_class(Keys(), sampler=keys, batch_size=2, collate_fn=identity, num_workers=workers)
    got = [key for batch in loader for key in batch]
    assert got == list(keys)
    assert [type(key) for key in got] == [type(key) for key in keys]
    batches = [list(keys)]
    assert values(loader_class(Keys(), batch_sampler=batches, collate_fn=identity, num_workers=workers)) == batches


@both
def test_dl_11_a_sampler_is_iterated_anew_each_epoch(loader_class: Loader, workers: int) -> None:
    sampler = CountingSampler([2, 0, 1])
    loader = loader_class(Numbers(3), sampler=sampler, num_workers=workers)
    assert values(loader) == values(loader) == [[2], [0], [1]]
    assert sampler.iterated == 2
    assert sampler.drawn == 6


@both
def test_dl_11_a_sampler_needs_a_length_only_for_len(loader_class: Loader, workers: int) -> None:
    class Endless:
        def __iter__(self) -> Any:
            return iter(range(3))

    loader = loader_class(Numbers(3), sampler=Endless(), num_workers=workers)
    assert values(loader) == [[0], [1], [2]]
    with pytest.raises(TypeError, match="has no len"):
        len(loader)
    loader = loader_class(Numbers(3), batch_sampler=([i] for i in range(3)))
    assert values(loader) == [[0], [1], [2]]
    assert values(loader) == []


@both
@pytest.mark.parametrize(
    "sampler",
    [
        RandomSampler(range(6)),
        RandomSampler(range(6), replacement=True, num_samples=40),
        WeightedRandomSampler([0.5] * 6, 6),
        SubsetRandomSampler(range(6)),
        None,
    ],
    ids=["random", "replacement", "weighted", "subset", "sequential"],
)
def test_dl_11_keys_are_python_ints(loader_class: Loader, sampler: Any, workers: int) -> None:
    loader = loader_class(Keys(6), sampler=sampler, batch_size=4, collate_fn=identity, num_workers=workers)
    assert {type(key) for batch in loader for key in batch} == {int}


def test_dl_11_a_random_split_asks_for_python_ints(loader_class: Loader) -> None:
    parts = random_split(Keys(10), [4, 6], generator=torch.Generator().manual_seed(0))
    got = [key for part in parts for batch in loader_class(part, collate_fn=identity) for key in batch]
    assert sorted(got) == list(range(10))
    assert {type(key) for key in got} == {int}


@both
def test_dl_11_a_subset_passes_its_indices_on(loader_class: Loader, workers: int) -> None:
    indices = [np.int64(3), (1, 2), "a", torch.tensor(4)]
    loader = loader_class(Subset(Keys(), indices), collate_fn=identity, num_workers=workers)
    got = [batch[0] for batch in loader]
    assert got == indices
    assert [type(key) for key in got] == [type(key) for key in indices]
    sampler = SubsetRandomSampler(indices)
    got = [batch[0] for batch in loader_class(Keys(), sampler=sampler, collate_fn=identity, num_workers=workers)]
    assert {type(key) for key in got} == {type(key) for key in indices}


@both
def test_dl_12_bulk_loading(loader_class: Loader, workers: int) -> None:
    loader = loader_class(Table(), batch_size=None, sampler=[[0, 1], [5]], num_workers=workers)
    first, second = loader
    assert torch.equal(first["rows"], torch.tensor([0, 1]))
    assert torch.equal(second["rows"], torch.tensor([5]))
    assert first["name"] == "table"
    assert type(first["pair"]) is list
    assert torch.equal(first["pair"][0], torch.tensor(1.0))
    assert type(first["pair"][1]) is int
    assert len(loader) == 2


@both
def test_dl_21_getitems_is_used_with_batches_only(loader_class: Loader, workers: int) -> None:
    loader = loader_class(ManyAtOnce(), batch_size=3, collate_fn=identity, num_workers=workers)
    assert values(loader) == [[("many", 0), ("many", 1), ("many", 2)], [("many", 3)]]
    loader = loader_class(ManyAtOnce(), batch_size=None, collate_fn=identity, num_workers=workers)
    assert values(loader) == [("one", i) for i in range(4)]
    loader = loader_class(NoneAtOnce(2), batch_size=2, collate_fn=identity, num_workers=workers)
    assert values(loader) == [[("one", 0), ("one", 1)]]


@both
def test_dl_21_what_getitems_gives_is_collated_whatever_its_length(loader_class: Loader, workers: int) -> None:
    loader = loader_class(ManyAtOnce(2, extra=1), batch_size=2, collate_fn=len, num_workers=workers)
    assert values(loader) == [3]
    (batch,) = loader_class(ManyAtOnce(2), batch_size=2, num_workers=workers)
    assert batch[0] == ("many", "many")
    assert torch.equal(batch[1], torch.tensor([0, 1]))


@both
def test_dl_21_a_stack_checks_the_length(loader_class: Loader, workers: int) -> None:
    good = loader_class(
        StackDataset(a=ManyAtOnce(), b=Numbers(4)), batch_size=2, collate_fn=identity, num_workers=workers
    )
    assert next(iter(good)) == [{"a": ("many", 0), "b": 0}, {"a": ("many", 1), "b": 1}]
    bad = loader_class(StackDataset(ManyAtOnce(extra=1)), batch_size=3, num_workers=workers)
    error = error_of(next, iter(bad))
    assert type(error) is ValueError
    assert "Nested dataset's output size mismatch. Expected 3, got 4" in str(error)


@both
def test_dl_21_a_subset_forwards(loader_class: Loader, workers: int) -> None:
    subset = Subset(ManyAtOnce(9), [7, 5])
    loader = loader_class(subset, batch_size=2, collate_fn=identity, num_workers=workers)
    assert values(loader) == [[("many", 7), ("many", 5)]]
    with pytest.raises(NotImplementedError, match="Doubled overrides __getitem__ but not __getitems__"):
        Doubled(Numbers(3), [0, 1])


@both
def test_dl_22_drop_last(loader_class: Loader, workers: int) -> None:
    loader = loader_class(Numbers(5), batch_size=2, drop_last=True, num_workers=workers)
    assert values(loader) == [[0, 1], [2, 3]]
    assert len(loader) == 2


def test_dl_22_drop_last_acts_on_each_workers_stream(loader_class: Loader) -> None:
    loader = loader_class(Stream(3, 5), batch_size=2, drop_last=True, num_workers=2)
    assert values(loader) == [[0, 1], [100, 101], [102, 103]]
    assert values(loader_class(Stream(3), batch_size=2, drop_last=True)) == [[0, 1]]
