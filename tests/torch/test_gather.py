"""Tensor datasets are gathered by index: the same batches as torch's loader gives, or torch's own path and errors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.utils.data
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import Subset, TensorDataset, default_collate, random_split
from torch.utils.data._utils.collate import default_collate_fn_map
from zenith_torch import DataLoader
from zenith_torch.fetch import gathering

ROWS = 23


def no_fetch(indices: Any) -> Any:
    raise AssertionError(f"torch's path was taken for {indices}")


def identical(ours: Any, theirs: Any) -> bool:
    """Equal in types, values, dtypes and memory layout."""
    if isinstance(theirs, torch.Tensor):
        same = type(ours) is type(theirs) and ours.dtype == theirs.dtype and ours.stride() == theirs.stride()
        return same and torch.equal(ours, theirs) and ours.requires_grad == theirs.requires_grad
    return type(ours) is type(theirs) and len(ours) == len(theirs) and all(map(identical, ours, theirs))


DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.uint8, torch.bool, torch.complex64]


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.sampled_from(DTYPES), st.lists(st.integers(0, 3), max_size=3)), min_size=1, max_size=4),
    st.integers(1, 9),
    st.booleans(),
    st.integers(0, 2),
)
def test_batches_are_those_of_torch(
    shapes: list[tuple[torch.dtype, list[int]]], batch_size: int, shuffle: bool, subsets: int
) -> None:
    dataset: Any = TensorDataset(*(torch.randint(0, 2, (ROWS, *shape)).to(dtype) for dtype, shape in shapes))
    for _ in range(subsets):
        dataset = Subset(dataset, torch.randperm(len(dataset))[: len(dataset) - 2].tolist())
    assert gathering(dataset, default_collate, no_fetch) is not None
    found = []
    for loader_class in (torch.utils.data.DataLoader, DataLoader):
        loader = loader_class(dataset, batch_size, shuffle, generator=torch.Generator().manual_seed(7))
        found.append([list(loader), list(loader)])
    theirs, ours = found
    assert identical(ours, theirs)


def test_a_tensor_dataset_takes_the_fast_path_and_random_split_too() -> None:
    dataset = TensorDataset(torch.arange(ROWS), torch.rand(ROWS, 2))
    for whole in (dataset, *random_split(dataset, [0.5, 0.5])):
        gather = gathering(whole, default_collate, no_fetch)
        assert gather is not None
        assert identical(gather([3, 1]), default_collate([whole[3], whole[1]]))


class Changed(TensorDataset):
    """A subclass may do anything."""


@pytest.mark.parametrize(
    "dataset",
    [
        Changed(torch.arange(ROWS)),
        torch.utils.data.ConcatDataset([TensorDataset(torch.arange(ROWS))]),
        torch.utils.data.StackDataset(torch.arange(ROWS)),
    ],
)
def test_other_datasets_are_left_alone(dataset: Any) -> None:
    assert gathering(dataset, default_collate, no_fetch) is None


def test_another_collation_is_left_alone() -> None:
    assert gathering(TensorDataset(torch.arange(ROWS)), lambda batch: batch, no_fetch) is None


@pytest.mark.parametrize(
    "tensor",
    [
        torch.rand(ROWS, 2, requires_grad=True),
        torch.rand(ROWS, 2, 3, 3).contiguous(memory_format=torch.channels_last),
        torch.rand(2, ROWS).t(),
        torch.rand(ROWS, dtype=torch.complex64).conj(),
        torch.nn.Parameter(torch.rand(ROWS), requires_grad=False),
        torch.rand(ROWS, 2).to_sparse(),
    ],
    ids=["grad", "channels_last", "transposed", "conj", "subclass", "sparse"],
)
def test_an_unusual_tensor_takes_torchs_path(tensor: torch.Tensor) -> None:
    gather = gathering(TensorDataset(tensor), default_collate, lambda indices: ("torch", indices))
    assert gather is not None
    assert gather([1, 2]) == ("torch", [1, 2])


@pytest.mark.parametrize(
    "indices",
    [[1, ROWS], [-1, 2], [True, 2], [torch.tensor(1), 2], [], (1, 2), [2**80], [None], [slice(0, 2)]],
    ids=str,
)
def test_an_unusual_index_takes_torchs_path(indices: Any) -> None:
    gather = gathering(TensorDataset(torch.arange(ROWS)), default_collate, lambda given: ("torch", given))
    assert gather is not None
    assert gather(indices) == ("torch", indices)


def test_errors_are_torchs_own() -> None:
    loader: DataLoader[Any] = DataLoader(TensorDataset(torch.arange(3)), batch_size=2, sampler=[0, 1, 2, 7])
    iterator = iter(loader)
    assert identical(next(iterator), [torch.tensor([0, 1])])
    with pytest.raises(IndexError, match="index 7 is out of bounds"):
        next(iterator)


@pytest.fixture
def collate_map() -> Iterator[dict[Any, Any]]:
    before = dict(default_collate_fn_map)
    yield default_collate_fn_map
    default_collate_fn_map.clear()
    default_collate_fn_map.update(before)


def test_a_changed_collate_map_is_honoured_at_once(collate_map: dict[Any, Any]) -> None:
    loader: DataLoader[Any] = DataLoader(TensorDataset(torch.arange(6)), batch_size=2)
    iterator = iter(loader)
    assert identical(next(iterator), [torch.tensor([0, 1])])
    collate_map[torch.Tensor] = lambda batch, *, collate_fn_map=None: "mine"
    assert next(iterator) == ["mine"]


def test_a_replaced_getitem_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    loader: DataLoader[Any] = DataLoader(TensorDataset(torch.arange(6)), batch_size=2)
    monkeypatch.setattr(TensorDataset, "__getitem__", lambda self, index: index)
    assert identical(next(iter(loader)), torch.tensor([0, 1]))
