"""Batches of tensor datasets by one indexed gather per tensor, where the result is provably torch's own."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.data import Subset, TensorDataset, default_collate

from zenith_torch.collation import Shipped

_is_shipped = Shipped((), torch.empty(0))
"""Of samples that are tuples of tensors."""

_HOOKS = tuple(
    (kind, name, vars(kind).get(name))
    for kind, names in ((TensorDataset, ("__getitem__", "__getitems__")), (Subset, ("__getitem__", "__getitems__")))
    for name in names
)
"""What reading a sample runs, to notice that somebody has put something else in its place."""

Fetch = Callable[[Any], Any]
Empty = Callable[[tuple[int, ...], torch.dtype], torch.Tensor]


def gathering(dataset: Any, collate_fn: Any, fetch: Fetch, empty: Empty | None = None) -> Fetch | None:
    """A function in place of ``fetch`` (list of indices to batch) that gives the same batches faster, or ``None``.

    There is one for a ``TensorDataset``, and for ``Subset`` of one, under torch's own ``default_collate``: all of exactly
    these types. Stacking the samples and selecting the rows give the same tensor then. Every batch checks what may have
    changed since, and whatever is unusual (another kind of index, an index out of range) goes to ``fetch``, so that
    errors are torch's too. ``empty`` (shape and dtype to tensor) says where the rows go, if it matters.
    """
    if collate_fn is not default_collate:
        return None
    subsets = []
    while type(dataset) is Subset:
        subsets.append(dataset)
        dataset = dataset.dataset
    if type(dataset) is not TensorDataset:
        return None
    base = dataset
    make = empty or _empty

    def gather(indices: Any) -> Any:
        if type(indices) is not list or not _is_plain(base):
            return fetch(indices)
        places = indices
        try:
            for subset in subsets:
                places = [subset.indices[index] for index in places]
            # A bool or a number of numpy means something else to a tensor, or may.
            if set(map(type, places)) != {int}:
                return fetch(indices)
            # Many times as fast as torch.tensor(places).
            chosen = torch.frombuffer(array("q", places), dtype=torch.int64)
            return [
                torch.index_select(tensor, 0, chosen, out=make((len(places), *tensor.shape[1:]), tensor.dtype))
                for tensor in base.tensors
            ]
        except Exception:
            # Out of range, negative, or no list of indices at all: torch's path knows what to say to that.
            return fetch(indices)

    return gather


def _is_plain(dataset: TensorDataset) -> bool:
    """Whether a sample is nothing but a row of each tensor, as torch itself defines it."""
    return (
        type(dataset.tensors) is tuple
        and all(map(_is_plain_tensor, dataset.tensors))
        and _is_shipped()
        and all(vars(kind).get(name) is value for kind, name, value in _HOOKS)
    )


def _is_plain_tensor(tensor: Any) -> bool:
    """Whether stacking its rows is selecting them: no gradient, no other memory format, no lazy bits."""
    return (
        type(tensor) is torch.Tensor
        and tensor.layout is torch.strided
        and tensor.device.type == "cpu"
        and tensor.dim() > 0
        and tensor.is_contiguous()
        and not (tensor.requires_grad or tensor.is_quantized or tensor.is_conj() or tensor.is_neg())
    )


def _empty(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype)
