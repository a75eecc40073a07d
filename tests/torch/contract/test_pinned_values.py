"""DL-60 and DL-61: what becomes of a batch of any type when it is pinned."""

from __future__ import annotations

import collections
from typing import Any

import pytest
import torch
from contract_samples import Fields, Point, Row, Samples, is_marked, pin
from torch.nn.utils.rnn import pack_sequence

Loader = type[torch.utils.data.DataLoader]

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


class Triple(tuple):
    pass


class Batch:
    def __init__(self, value: torch.Tensor) -> None:
        self.value = value

    def pin_memory(self) -> str:
        return f"pinned {self.value.tolist()}"


def test_dl_60_tensors_and_what_pins_itself(loader_class: Loader, workers: int, pinned: list[Any]) -> None:
    assert is_marked(pin(loader_class, workers, torch.ones(2)))
    assert pin(loader_class, workers, Batch(torch.ones(2))) == "pinned [1.0, 1.0]"
    packed = pin(loader_class, workers, pack_sequence([torch.ones(3), torch.ones(2)]))
    assert type(packed) is torch.nn.utils.rnn.PackedSequence
    assert is_marked(packed.data)


@pytest.mark.parametrize("sample", ["text", b"bytes", 3, 2.5, None, {1, 2}], ids=repr)
def test_dl_60_what_is_left_alone(loader_class: Loader, workers: int, sample: Any, pinned: list[Any]) -> None:
    got = pin(loader_class, workers, sample)
    assert got == sample
    assert type(got) is type(sample)


def test_dl_60_collections(loader_class: Loader, workers: int, pinned: list[Any]) -> None:
    ones = torch.ones(2)
    fields, row = Fields(a=ones, b="x"), Row([ones, "x"])
    fields.extra = row.extra = "kept"
    got = pin(loader_class, workers, fields)
    assert (type(got), got.extra, is_marked(got["a"]), got["b"]) == (Fields, "kept", True, "x")
    got = pin(loader_class, workers, row)
    assert (type(got), got.extra, is_marked(got[0]), got[1]) == (Row, "kept", True, "x")
    got = pin(loader_class, workers, Point(ones, "x"))
    assert (type(got), is_marked(got.x), got.y) == (Point, True, "x")
    # Unlike in collation, a tuple stays one.
    for kind in (tuple, Triple, list, collections.deque):
        got = pin(loader_class, workers, kind([ones, "x"]))
        assert (type(got), is_marked(got[0]), got[1]) == (kind, True, "x")
    got = pin(loader_class, workers, {"deep": [(ones, {"er": ones})]})
    assert is_marked(got["deep"][0][0])
    assert is_marked(got["deep"][0][1]["er"])
    assert pin(loader_class, workers, range(2)) == [0, 1]


def test_dl_60_the_datasets_own_collections_are_copied(loader_class: Loader, workers: int, pinned: list[Any]) -> None:
    sample = {"a": torch.ones(2), "b": [torch.ones(2)]}
    got = pin(loader_class, workers, sample)
    assert got is not sample
    assert got["b"] is not sample["b"]
    assert not is_marked(sample["a"])
    assert not is_marked(sample["b"][0])


@needs_gpu
def test_dl_61_batches_are_pinned(loader_class: Loader, workers: int) -> None:
    for batch in loader_class(Samples(torch.ones(3), torch.ones(3)), num_workers=workers, pin_memory=True):
        assert batch.is_pinned()


@needs_gpu
def test_dl_61_tensors_that_are_pinned_or_on_the_device(loader_class: Loader) -> None:
    ready = torch.ones(3).pin_memory()
    assert pin(loader_class, 0, ready) is ready
    with pytest.raises(RuntimeError, match="only dense CPU tensors can be pinned"):
        pin(loader_class, 0, torch.ones(3, device="cuda"))
