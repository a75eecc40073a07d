"""DL-49, DL-50, DL-52 and DL-55: how samples become a batch, in the main process and in workers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from contract_samples import assert_tensor, batch_of, failure
from contract_support import Numbers, error_of, identity
from torch.utils.data import default_collate, default_convert
from torch.utils.data._utils.collate import default_collate_fn_map

Loader = type[torch.utils.data.DataLoader]
UNKNOWN = "default_collate: batch must contain tensors, numpy arrays, numbers, dicts or lists; found "


class Custom:
    def __init__(self, value: int) -> None:
        self.value = value


def collate_custom(batch: list[Custom], *, collate_fn_map: Any = None) -> str:
    assert collate_fn_map is default_collate_fn_map
    return f"custom {[sample.value for sample in batch]}"


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
    # A worker counts the elements before it stacks.
    assert type(failure(loader_class, workers, torch.tensor(1), 2)) is (AttributeError if workers else TypeError)


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
    arrays = [np.arange(6).reshape(2, 3).astype(dtype), np.ones((2, 3), dtype)]
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
