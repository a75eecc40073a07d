"""DL-63: whatever a worker makes arrives as torch would bring it: types, values, layout, what is shared with what."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from contract_samples import Point, Row, Samples
from contract_support import Call, identity, is_in_shared_memory, values
from torch.nn.utils.rnn import pack_sequence

Loader = type[torch.utils.data.DataLoader]


@dataclasses.dataclass
class Record:
    name: str
    value: torch.Tensor


PLAIN = {
    "none": None,
    "text": "Zoë\n\0𝄞",
    "bytes": bytes(range(256)) * 4096,
    "numbers": [0, -1, 2**70, 1.5, float("inf"), 3j, True],
    "empty": [[], (), {}, set(), "", b""],
    "nested": {"a": [({1: (2, [3])},)], 5: {"b": Row([1])}, (1, 2): frozenset({3})},
    "torch": [torch.float16, torch.device("cpu"), torch.Size([1, 2])],
}

TENSORS = {
    "number": torch.tensor(3),
    "empty": torch.empty(0, 3, dtype=torch.int16),
    "bool": torch.tensor([True, False]),
    "bfloat16": torch.ones(3, dtype=torch.bfloat16),
    "complex": torch.ones(3, dtype=torch.complex64) * 1j,
    "transposed": torch.arange(6.0).reshape(2, 3).t(),
    "strided": torch.arange(20).reshape(4, 5)[1:3, ::2],
    "expanded": torch.ones(1).expand(5),
    "channels_last": torch.rand(1, 3, 4, 4).contiguous(memory_format=torch.channels_last),
    "leaf": torch.ones(2, requires_grad=True),
    "parameter": torch.nn.Parameter(torch.ones(2)),
    "large": torch.arange(1_000_000),
}

ARRAYS = {
    "float": np.arange(6.0).reshape(2, 3),
    "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "records": np.array([(1, "a")], dtype=[("x", "i4"), ("y", "U2")]),
    "dates": np.array(["2024-01-01"], "datetime64[D]"),
    "objects": np.array([None, "a", (1,)], dtype=object),
    "number": np.float32(1.5),
}


def sent(loader_class: Loader, sample: Any) -> Any:
    (batch,) = loader_class(Samples(sample), batch_size=None, num_workers=1, collate_fn=identity)
    return batch


def growing(index: int) -> torch.Tensor:
    return torch.full((4**index,), index, dtype=torch.float64)


def many(index: int) -> dict[str, torch.Tensor]:
    return {f"field {i}": torch.tensor([index, i]) for i in range(300)}


def test_dl_63_plain_objects(loader_class: Loader) -> None:
    got = sent(loader_class, PLAIN)
    assert got == PLAIN
    assert repr(got) == repr(PLAIN)
    assert type(got["nested"][5]["b"]) is Row


def test_dl_63_tensors(loader_class: Loader) -> None:
    got, reference = sent(loader_class, TENSORS), sent(torch.utils.data.DataLoader, TENSORS)
    for name, tensor in TENSORS.items():
        assert torch.equal(got[name], tensor), name
        for what in ("dtype", "shape", "device", "requires_grad", "layout", "is_leaf", "grad_fn"):
            assert getattr(got[name], what) == getattr(tensor, what), (name, what)
        assert got[name].stride() == tensor.stride(), name
        assert type(got[name]) is type(reference[name]), name
        assert is_in_shared_memory(got[name]) == is_in_shared_memory(reference[name]), name


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
def test_dl_63_sparse_tensors(loader_class: Loader) -> None:
    eye = torch.eye(4)
    got = sent(loader_class, [eye.to_sparse(), eye.to_sparse().coalesce()])
    for tensor in got:
        assert tensor.layout is torch.sparse_coo
        assert torch.equal(tensor.to_dense(), eye)


def test_dl_63_arrays(loader_class: Loader) -> None:
    got = sent(loader_class, ARRAYS)
    for name, array in ARRAYS.items():
        assert type(got[name]) is type(array), name
        assert got[name].dtype == array.dtype, name
        assert got[name].tolist() == array.tolist(), name
    assert got["fortran"].flags.f_contiguous
    assert got["float"].flags.writeable


def test_dl_63_objects_that_hold_tensors(loader_class: Loader) -> None:
    record, point, packed = sent(
        loader_class, (Record("a", torch.arange(3)), Point(1, torch.ones(2)), pack_sequence([torch.ones(3)]))
    )
    assert type(record) is Record
    assert (record.name, record.value.tolist()) == ("a", [0, 1, 2])
    assert type(point) is Point
    assert is_in_shared_memory(point.y)
    assert packed.data.tolist() == [1, 1, 1]
    assert is_in_shared_memory(packed.data)


def test_dl_63_what_was_one_object_stays_one(loader_class: Loader) -> None:
    one, items = torch.ones(3), [1]
    first, second, third, fourth = sent(loader_class, [one, one, items, items])
    assert first is second
    assert third is fourth
    assert first is not one


def test_dl_63_batches_of_any_size(loader_class: Loader) -> None:
    loader = loader_class(Call(growing, 11), batch_size=1, num_workers=2)
    for index, batch in enumerate(loader):
        assert batch.shape == (1, 4**index)
        assert batch[0, 0] == batch[0, -1] == index


def test_dl_63_batches_of_many_tensors(loader_class: Loader) -> None:
    for number, batch in enumerate(loader_class(Call(many, 8), batch_size=2, num_workers=2)):
        assert list(batch) == [f"field {i}" for i in range(300)]
        for i, tensor in enumerate(batch.values()):
            assert tensor.tolist() == [[2 * number, i], [2 * number + 1, i]]
            assert is_in_shared_memory(tensor)


@pytest.mark.parametrize("persistent", [False, True])
def test_dl_63_over_many_epochs(loader_class: Loader, persistent: bool) -> None:
    loader = loader_class(Call(growing, 6), batch_size=None, num_workers=2, persistent_workers=persistent)
    expected = [[float(i)] * 4**i for i in range(6)]
    for _ in range(3):
        assert values(loader) == expected
