"""DL-53: mappings, tuples and other sequences in a batch."""

from __future__ import annotations

import collections
import types
from typing import Any

import numpy as np
import torch
from contract_samples import Fields, Point, Row, assert_tensor, batch_of, failure

Loader = type[torch.utils.data.DataLoader]


class Stubborn(dict):
    """Cannot be copied, and so becomes a plain dict."""

    def __copy__(self) -> Any:
        raise TypeError("no copies")


def test_dl_53_a_mutable_mapping_is_copied(loader_class: Loader, workers: int) -> None:
    first, second = Fields(a=1, b="x"), Fields(b="y", a=2)
    first.extra = "kept"
    batch = batch_of(loader_class, workers, first, second)
    assert type(batch) is Fields
    assert batch.extra == "kept"
    assert list(batch) == ["a", "b"]
    assert_tensor(batch["a"], [1, 2], torch.int64)
    assert batch["b"] == ["x", "y"]
    assert dict(first) == {"a": 1, "b": "x"}
    ordered = batch_of(loader_class, workers, collections.OrderedDict(z=1, a=2), {"a": 3, "z": 4})
    assert type(ordered) is collections.OrderedDict
    assert [tensor.tolist() for tensor in ordered.values()] == [[1, 4], [2, 3]]


def test_dl_53_other_mappings(loader_class: Loader) -> None:
    # A mapping proxy does not pickle, so it cannot come from a worker.
    batch = batch_of(loader_class, 0, types.MappingProxyType({"a": 1}), types.MappingProxyType({"a": 2}))
    assert type(batch) is types.MappingProxyType
    assert_tensor(batch["a"], [1, 2], torch.int64)


def test_dl_53_a_mapping_that_cannot_be_copied_becomes_a_dict(loader_class: Loader, workers: int) -> None:
    batch = batch_of(loader_class, workers, Stubborn(a=1), Stubborn(a=2))
    assert type(batch) is dict
    assert_tensor(batch["a"], [1, 2], torch.int64)


def test_dl_53_the_first_elements_keys_count(loader_class: Loader, workers: int) -> None:
    assert list(batch_of(loader_class, workers, {"a": 1}, {"a": 2, "b": 3})) == ["a"]
    error = failure(loader_class, workers, {"a": 1, "b": 3}, {"a": 2})
    assert type(error) is KeyError
    assert "b" in str(error)


def test_dl_53_tuples(loader_class: Loader, workers: int) -> None:
    batch = batch_of(loader_class, workers, Point(1, "a"), Point(2, "b"))
    assert type(batch) is Point
    assert_tensor(batch.x, [1, 2], torch.int64)
    # A column of texts is the tuple that `zip` made.
    assert batch.y == ("a", "b")
    plain = batch_of(loader_class, workers, (1, "a"), (2, "b"))
    assert type(plain) is list
    assert_tensor(plain[0], [1, 2], torch.int64)
    assert plain[1] == ("a", "b")


def test_dl_53_sequences(loader_class: Loader, workers: int) -> None:
    first = Row([1, 2.5])
    first.extra = "kept"
    batch = batch_of(loader_class, workers, first, Row([3, 4.5]))
    assert type(batch) is Row
    assert batch.extra == "kept"
    assert first == [1, 2.5]
    assert_tensor(batch[0], [1, 3], torch.int64)
    assert_tensor(batch[1], [2.5, 4.5], torch.float64)
    ranges = batch_of(loader_class, workers, range(2), range(2, 4))
    assert type(ranges) is list
    assert [column.tolist() for column in ranges] == [[0, 2], [1, 3]]
    queues = batch_of(loader_class, workers, collections.deque([1]), collections.deque([2]))
    assert type(queues) is collections.deque
    assert_tensor(queues[0], [1, 2], torch.int64)


def test_dl_53_nested(loader_class: Loader, workers: int) -> None:
    def sample(i: int) -> Any:
        return {"a": [i, (float(i), Point(i, f"text {i}"))], "b": {"c": np.array([i, i])}}

    batch = batch_of(loader_class, workers, sample(1), sample(2))
    assert_tensor(batch["a"][0], [1, 2], torch.int64)
    assert type(batch["a"][1]) is list
    assert_tensor(batch["a"][1][0], [1, 2], torch.float64)
    assert batch["a"][1][1].y == ("text 1", "text 2")
    assert_tensor(batch["b"]["c"], [[1, 1], [2, 2]], torch.int64)


def test_dl_53_unequal_lengths(loader_class: Loader, workers: int) -> None:
    for samples in ([[1, 2], [3]], [(1,), (2, 3)]):
        error = failure(loader_class, workers, *samples)
        assert type(error) is RuntimeError
        assert "each element in list of batch should be of equal size" in str(error)
