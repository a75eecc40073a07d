"""DL-49, DL-50, DL-52, DL-53, DL-55 and DL-56: how samples become a batch, in the main process and in workers."""

from __future__ import annotations

import collections
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from contract_support import Numbers, error_of, identity
from torch.utils.data import Dataset, default_collate, default_convert
from torch.utils.data._utils.collate import default_collate_fn_map

Loader = type[torch.utils.data.DataLoader]
UNKNOWN = "default_collate: batch must contain tensors, numpy arrays, numbers, dicts or lists; found "


class Samples(Dataset):
    def __init__(self, samples: list[Any]) -> None:
        self.samples = samples

    def __getitem__(self, index: int) -> Any:
        return self.samples[index]

    def __len__(self) -> int:
        return len(self.samples)


class Point(NamedTuple):
    x: Any
    y: Any


class Fields(dict):
    """A mapping with an attribute of its own."""

    extra = "none"


class Stubborn(dict):
    """Cannot be copied, and so becomes a plain dict."""

    def __copy__(self) -> Any:
        raise TypeError("no copies")


class Row(list):
    extra = "none"


class Custom:
    def __init__(self, value: int) -> None:
        self.value = value


def collate_custom(batch: list[Custom], *, collate_fn_map: Any = None) -> str:
    assert collate_fn_map is default_collate_fn_map
    return f"custom {[sample.value for sample in batch]}"


@pytest.fixture(params=[0, 1], ids=["main", "worker"])
def workers(request: pytest.FixtureRequest) -> int:
    return request.param


def batch_of(loader_class: Loader, workers: int, *samples: Any) -> Any:
    (batch,) = loader_class(Samples(list(samples)), batch_size=len(samples), num_workers=workers)
    return batch


def convert(loader_class: Loader, workers: int, sample: Any) -> Any:
    (converted,) = loader_class(Samples([sample]), batch_size=None, num_workers=workers)
    return converted


def failure(loader_class: Loader, workers: int, *samples: Any) -> Exception:
    loader = loader_class(Samples(list(samples)), batch_size=len(samples), num_workers=workers)
    return error_of(next, iter(loader))


def assert_tensor(value: Any, expected: Any, dtype: torch.dtype) -> None:
    assert type(value) is torch.Tensor
    assert value.dtype is dtype
    assert torch.equal(value, torch.as_tensor(expected, dtype=dtype))


def test_dl_49_the_default_functions_are_torchs_own(loader_class: Loader) -> None:
    assert loader_class(Numbers(3)).collate_fn is default_collate
    assert loader_class(Numbers(3), batch_sampler=[[0]]).collate_fn is default_collate
    assert loader_class(Numbers(3), batch_size=None).collate_fn is default_convert
    assert loader_class(Numbers(3), collate_fn=identity).collate_fn is identity


@pytest.mark.parametrize("sample", [object(), None, {1, 2}, 3 + 4j, Custom(1)], ids=lambda s: type(s).__name__)
def test_dl_50_unknown_types(loader_class: Loader, workers: int, sample: Any) -> None:
    error = failure(loader_class, workers, sample)
    assert type(error) is TypeError
    assert f"{UNKNOWN}{type(sample)}" in str(error)


def test_dl_50_only_the_first_element_decides(loader_class: Loader, workers: int) -> None:
    assert_tensor(batch_of(loader_class, workers, 1, 2.5), [1, 2.5], torch.float32)
    assert_tensor(batch_of(loader_class, workers, 1.5, 2), [1.5, 2], torch.float64)
    assert batch_of(loader_class, workers, "a", 3) == ["a", 3]
    assert_tensor(batch_of(loader_class, workers, True, 2), [1, 2], torch.int64)
    assert type(failure(loader_class, workers, torch.tensor(1), 2)) is TypeError


def test_dl_50_an_empty_batch(loader_class: Loader, workers: int) -> None:
    error = error_of(next, iter(loader_class(Numbers(3), batch_sampler=[[]], num_workers=workers)))
    assert type(error) is IndexError


@pytest.mark.parametrize(
    ("samples", "dtype"),
    [
        ([1.5, 2.5], torch.float64),
        ([1, 2], torch.int64),
        ([True, False], torch.bool),
        ([np.float32(1), np.float32(2)], torch.float32),
        ([np.int16(1), np.int16(2)], torch.int16),
        ([np.bool_(True), np.bool_(False)], torch.bool),
        ([np.complex64(1), np.complex64(2)], torch.complex64),
    ],
    ids=lambda value: str(value),
)
def test_dl_52_numbers(loader_class: Loader, workers: int, samples: list[Any], dtype: torch.dtype) -> None:
    assert_tensor(batch_of(loader_class, workers, *samples), samples, dtype)


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float16", "float64", "bool"])
def test_dl_52_arrays(loader_class: Loader, workers: int, dtype: str) -> None:
    arrays = [np.arange(6, dtype=dtype).reshape(2, 3), np.ones((2, 3), dtype)]
    assert_tensor(batch_of(loader_class, workers, *arrays), np.stack(arrays), getattr(torch, dtype))


def test_dl_52_a_zero_dimensional_array(loader_class: Loader, workers: int) -> None:
    assert_tensor(batch_of(loader_class, workers, np.array(1.5), np.array(2)), [1.5, 2], torch.float64)


def test_dl_52_a_memmap(loader_class: Loader, workers: int, tmp_path: Path) -> None:
    mapped = np.memmap(tmp_path / "numbers", np.float32, "w+", shape=(2, 5))
    mapped[:] = np.arange(10).reshape(2, 5)
    batch = batch_of(loader_class, workers, mapped[0], mapped[1])
    assert_tensor(batch, np.arange(10).reshape(2, 5), torch.float32)


@pytest.mark.parametrize("array", [np.array(["a"]), np.array([b"a"]), np.array([object()])], ids=["U", "S", "O"])
def test_dl_52_arrays_of_no_numbers(loader_class: Loader, workers: int, array: Any) -> None:
    error = failure(loader_class, workers, array)
    assert type(error) is TypeError
    assert f"{UNKNOWN}{array.dtype}" in str(error)


@pytest.mark.parametrize("samples", [["a", "b"], [b"a", b"b"]], ids=["str", "bytes"])
def test_dl_52_text_is_handed_on(loader_class: Loader, workers: int, samples: list[Any]) -> None:
    batch = batch_of(loader_class, workers, *samples)
    assert type(batch) is list
    assert batch == samples
    assert batch_of(loader_class, workers, *[{"text": s} for s in samples]) == {"text": samples}


@pytest.mark.parametrize("workers", [0, 1])
def test_dl_52_a_list_of_texts_is_a_dataset(loader_class: Loader, workers: int) -> None:
    assert list(loader_class(["a", "b", "c"], batch_size=2, num_workers=workers)) == [["a", "b"], ["c"]]


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


@pytest.fixture
def custom_in_the_map() -> Iterator[None]:
    default_collate_fn_map[Custom] = collate_custom
    yield
    del default_collate_fn_map[Custom]


@pytest.mark.usefixtures("custom_in_the_map")
def test_dl_55_types_that_a_user_adds(loader_class: Loader, workers: int) -> None:
    class Derived(Custom):
        pass

    assert batch_of(loader_class, workers, Custom(1), Custom(2)) == "custom [1, 2]"
    assert batch_of(loader_class, workers, {"a": Derived(1)}, {"a": Custom(2)}) == {"a": "custom [1, 2]"}


def test_dl_55_functions_that_a_user_replaces(
    loader_class: Loader, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(default_collate_fn_map, torch.Tensor, lambda batch, *, collate_fn_map: f"{len(batch)} tensors")
    monkeypatch.setitem(default_collate_fn_map, int, lambda batch, *, collate_fn_map: sum(batch))
    assert batch_of(loader_class, workers, (torch.ones(2), 3), (torch.ones(2), 4)) == ["2 tensors", 7]
    # An array becomes tensors first.
    assert batch_of(loader_class, workers, np.ones(2), np.ones(2)) == "2 tensors"


@pytest.mark.parametrize("sample", [1, 2.5, "text", b"bytes", None, 1j, True], ids=repr)
def test_dl_56_most_values_are_left_alone(loader_class: Loader, workers: int, sample: Any) -> None:
    got = convert(loader_class, workers, sample)
    assert got == sample
    assert type(got) is type(sample)


def test_dl_56_tensors_and_arrays(loader_class: Loader, workers: int) -> None:
    tensor = torch.arange(3.0)
    got = convert(loader_class, workers, tensor)
    assert torch.equal(got, tensor)
    if workers == 0:
        assert got is tensor
    assert_tensor(convert(loader_class, workers, np.array([1, 2], np.int16)), [1, 2], torch.int16)
    assert_tensor(convert(loader_class, workers, np.float32(2)), 2, torch.float32)
    for array in (np.array(["a"]), np.array([b"a"]), np.array([None])):
        got = convert(loader_class, workers, array)
        assert type(got) is np.ndarray
        assert got.dtype == array.dtype
        assert got.tolist() == array.tolist()
    assert convert(loader_class, workers, np.str_("a")) == "a"


def test_dl_56_collections(loader_class: Loader, workers: int) -> None:
    fields = Fields(a=np.array(1), b="x")
    fields.extra = "kept"
    got = convert(loader_class, workers, fields)
    assert type(got) is Fields
    assert got.extra == "kept"
    assert_tensor(got["a"], 1, torch.int64)
    point = convert(loader_class, workers, Point(np.array(1), "x"))
    assert type(point) is Point
    assert_tensor(point.x, 1, torch.int64)
    plain = convert(loader_class, workers, (np.array(1), "x", [np.float32(2)]))
    assert type(plain) is list
    assert_tensor(plain[0], 1, torch.int64)
    assert plain[1] == "x"
    assert_tensor(plain[2][0], 2, torch.float32)
    assert convert(loader_class, workers, range(2)) == [0, 1]
    assert type(convert(loader_class, workers, Row([1]))) is Row
