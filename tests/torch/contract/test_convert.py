"""DL-56: what becomes of a sample where there are no batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from contract_samples import Fields, Point, Row, Samples, assert_tensor

Loader = type[torch.utils.data.DataLoader]


def convert(loader_class: Loader, workers: int, sample: Any) -> Any:
    (converted,) = loader_class(Samples(sample), batch_size=None, num_workers=workers)
    return converted


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
