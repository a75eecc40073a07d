"""DL-51, DL-54 and DL-57: batches of tensors, and in what memory they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from contract_samples import Samples, batch_of, failure
from contract_support import Call, identity, is_in_shared_memory
from torch.utils.data import TensorDataset, get_worker_info

Loader = type[torch.utils.data.DataLoader]


class Tagged(torch.Tensor):
    """A subclass with nothing of its own."""


def is_shared_where_it_was_made(batch: Any) -> dict[str, bool]:
    """As ``collate_fn``: what torch's function makes, looked at before it is sent."""
    assert (get_worker_info() is None) or get_worker_info().worker_method == "multiprocessing"
    made = torch.utils.data.default_collate(batch)
    return {name: value.is_shared() for name, value in made.items()}


def three_fields(index: int) -> dict[str, Any]:
    return {"tensor": torch.full((3,), index), "array": np.full(2, index), "number": index}


def test_dl_51_batches_of_workers_are_in_shared_memory(loader_class: Loader, workers: int) -> None:
    (batch,) = loader_class(Call(three_fields, 4), batch_size=4, num_workers=workers)
    assert {name: is_in_shared_memory(value) for name, value in batch.items()} == dict.fromkeys(batch, workers > 0)
    assert torch.equal(batch["tensor"], torch.arange(4)[:, None].expand(4, 3))
    (nested,) = loader_class(TensorDataset(torch.arange(4), torch.ones(4, 2)), batch_size=4, num_workers=workers)
    assert [is_in_shared_memory(value) for value in nested] == [workers > 0] * 2


def test_dl_51_the_default_function_writes_into_shared_memory_itself(loader_class: Loader, workers: int) -> None:
    dataset = Call(three_fields, 4)
    (batch,) = loader_class(dataset, batch_size=4, num_workers=workers, collate_fn=is_shared_where_it_was_made)
    assert batch == {"tensor": workers > 0, "array": workers > 0, "number": False}


def test_dl_51_so_is_whatever_else_a_worker_sends(loader_class: Loader, workers: int) -> None:
    loader = loader_class(
        Samples(torch.ones(2), torch.zeros(2)), batch_size=2, collate_fn=identity, num_workers=workers
    )
    (samples,) = loader
    assert [is_in_shared_memory(sample) for sample in samples] == [workers > 0] * 2
    assert [sample.tolist() for sample in samples] == [[1, 1], [0, 0]]


def test_dl_51_tensors_that_share_memory_do_so_after_a_worker_sent_them(loader_class: Loader, workers: int) -> None:
    whole = torch.arange(6.0)
    loader = loader_class(Samples((whole, whole[2:4])), batch_size=None, num_workers=workers, collate_fn=identity)
    first, second = next(iter(loader))
    second.fill_(9)
    assert first.tolist() == [0, 1, 9, 9, 4, 5]


def unsupported(kind: str) -> str:
    """What torch says of tensors that it does not collate."""
    return (
        f"Batches of {kind} tensors are not currently supported by the default collate_fn; "
        "please provide a custom collate_fn to handle them appropriately."
    )


@pytest.mark.parametrize("layout", ["coo", "csr", "csc", "bsr", "bsc"])
@pytest.mark.filterwarnings("ignore:Sparse")
def test_dl_54_sparse_tensors(loader_class: Loader, workers: int, layout: str) -> None:
    dense = torch.eye(4)
    sparse = {
        "coo": dense.to_sparse,
        "csr": dense.to_sparse_csr,
        "csc": dense.to_sparse_csc,
        "bsr": lambda: dense.to_sparse_bsr((2, 2)),
        "bsc": lambda: dense.to_sparse_bsc((2, 2)),
    }[layout]()
    error = failure(loader_class, workers, sparse, sparse)
    assert type(error) is RuntimeError
    assert unsupported("sparse") in str(error)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_dl_54_nested_tensors(loader_class: Loader, workers: int) -> None:
    for layout in (torch.strided, torch.jagged):
        nested = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=layout)
        error = failure(loader_class, workers, nested, nested)
        assert type(error) is RuntimeError
        assert unsupported("nested") in str(error)


def test_dl_57_elements_that_require_grad(loader_class: Loader, workers: int) -> None:
    samples = [torch.ones(2, requires_grad=True) * i for i in range(2)]
    if workers:
        error = failure(loader_class, workers, *samples)
        assert type(error) is RuntimeError
        assert "functions with out=... arguments don't support automatic differentiation" in str(error)
    else:
        batch = batch_of(loader_class, workers, *samples)
        assert batch.requires_grad
        assert batch.grad_fn is not None
        assert batch.tolist() == [[0, 0], [1, 1]]


def test_dl_57_a_wider_type_that_comes_later(loader_class: Loader, workers: int) -> None:
    batch = batch_of(loader_class, workers, torch.ones(2), torch.full((2,), 1 / 3, dtype=torch.float64))
    assert batch.dtype is (torch.float32 if workers else torch.float64)
    assert torch.equal(batch[1], torch.full((2,), 1 / 3, dtype=batch.dtype))


def test_dl_57_a_float_after_an_int(loader_class: Loader, workers: int) -> None:
    samples = [torch.ones(2, dtype=torch.int64), torch.full((2,), 0.5)]
    if workers:
        error = failure(loader_class, workers, *samples)
        assert type(error) is TypeError
        assert "input types can't be cast to the desired output type Long" in str(error)
    else:
        batch = batch_of(loader_class, workers, *samples)
        assert batch.dtype is torch.float32
        assert batch.tolist() == [[1, 1], [0.5, 0.5]]


def test_dl_57_channels_last(loader_class: Loader, workers: int) -> None:
    images = torch.arange(24.0).reshape(1, 2, 3, 4).contiguous(memory_format=torch.channels_last)
    batch = batch_of(loader_class, workers, images, images)
    assert torch.equal(batch, torch.stack([images, images]))
    # A worker writes into memory that it has laid out before it looks at the strides.
    assert batch.stride() == (torch.stack([images, images]).stride() if workers == 0 else (24, 24, 12, 4, 1))
    assert batch.is_contiguous() is (workers > 0)
    # A single image of such strides says nothing of channels, and is laid out anew by `stack` too.
    assert batch_of(loader_class, workers, images[0], images[0]).is_contiguous()


@pytest.mark.parametrize(
    "sample",
    [
        torch.tensor(5),
        torch.empty(0, 3),
        torch.ones(2, dtype=torch.bfloat16),
        torch.ones(2, dtype=torch.complex64),
        torch.ones(2, dtype=torch.bool),
        torch.arange(6.0).reshape(2, 3).t(),
        torch.arange(10)[::3],
        torch.ones(1).expand(4),
        torch.ones(2, dtype=torch.float8_e4m3fn),
        torch.ones(2, dtype=torch.uint16),
    ],
    ids=lambda sample: f"{sample.dtype}-{tuple(sample.shape)}-{sample.stride()}",
)
def test_dl_57_every_dtype_and_shape_follows_stack(loader_class: Loader, workers: int, sample: torch.Tensor) -> None:
    batch = batch_of(loader_class, workers, sample, sample)
    expected = torch.stack([sample, sample])
    assert type(batch) is torch.Tensor
    assert (batch.shape, batch.dtype, batch.device) == (expected.shape, expected.dtype, expected.device)
    # Bytes, because not every operation is there for every dtype.
    got, wanted = (
        tensor.clone(memory_format=torch.contiguous_format).untyped_storage() for tensor in (batch, expected)
    )
    assert got.tolist() == wanted.tolist()
    assert not batch.requires_grad


def test_dl_57_shapes_that_differ(loader_class: Loader, workers: int) -> None:
    error = failure(loader_class, workers, torch.ones(2), torch.ones(3))
    assert type(error) is RuntimeError
    assert "stack expects each tensor to be equal size, but got [2] at entry 0 and [3] at entry 1" in str(error)


def test_dl_57_subclasses(loader_class: Loader, workers: int) -> None:
    reference = batch_of(torch.utils.data.DataLoader, workers, torch.ones(2).as_subclass(Tagged))
    batch = batch_of(loader_class, workers, torch.ones(2).as_subclass(Tagged))
    assert type(batch) is type(reference)
    assert torch.equal(batch.as_subclass(torch.Tensor), torch.ones(1, 2))
    if workers == 0:
        assert type(batch) is Tagged
    parameter = torch.nn.Parameter(torch.ones(2), requires_grad=False)
    assert torch.equal(batch_of(loader_class, workers, parameter, parameter), torch.ones(2, 2))


def test_dl_57_results_on_the_meta_device(loader_class: Loader) -> None:
    batch = batch_of(loader_class, 0, torch.ones(2, device="meta"), torch.ones(2, device="meta"))
    assert batch.device.type == "meta"
    assert batch.shape == (2, 2)
