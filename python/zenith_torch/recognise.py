"""Decides whether a loader can run natively, and says why."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any

import zenith
from torch.utils.data import DistributedSampler, RandomSampler, SequentialSampler

from zenith_torch.sampler import PlanSampler
from zenith_torch.views import native_view


@dataclass(frozen=True)
class Order:
    """How the order of a native loader is to be made; ``None`` stands for the loader's own arguments."""

    shuffle: bool | None = None
    seed: int | None = None
    rank: int | None = None
    world_size: int | None = None
    drop_last: bool = False


@dataclass(frozen=True)
class Verdict:
    """Native or not, and the reason in words."""

    native: bool
    reason: str
    order: Order = Order()
    view: zenith.Dataset | None = None
    """What the engine reads: the dataset, or the view that a tree of ``Subset`` and ``ConcatDataset`` stands for."""
    jumps: bool = False
    """Not native only because the samples are wanted in an order that jumps between blocks."""


def as_dataset(dataset: Any, source: Any) -> Any:
    """The dataset that the arguments mean: a path or glob is opened by its format, and a list of them where it is ``source``.

    A list of texts in the place of the dataset is a dataset, as it is for torch.
    """
    if (dataset is None) == (source is None):
        raise TypeError("give either a dataset (or a path) or source=, not both and not neither")
    given = dataset if source is None else source
    is_path = isinstance(given, (str, os.PathLike))
    paths = given if dataset is None and isinstance(given, list) else []
    if is_path or (paths and all(isinstance(path, (str, os.PathLike)) for path in paths)):
        return zenith.open(given)
    return given


def recognise(
    dataset: Any,
    *,
    shuffle: Any,
    sampler: Any,
    batch_sampler: Any,
    batch_size: Any,
    collate_fn: Any,
    worker_init_fn: Any,
    shuffle_bytes: int,
) -> Verdict:
    """Whether these arguments of a loader leave room for the native path."""
    if type(sampler) is PlanSampler and sampler.dataset is dataset:
        view: zenith.Dataset | str = sampler.view
    else:
        view = native_view(dataset)
    if isinstance(view, str):
        return Verdict(False, view)
    for name, value in (
        ("collate_fn", collate_fn),
        ("worker_init_fn", worker_init_fn),
        ("batch_sampler", batch_sampler),
    ):
        if value is not None:
            return Verdict(False, f"{name}= was given: samples are asked for one by one, as torch does it", view=view)
    if batch_size is None:
        return Verdict(False, "batch_size=None: samples are asked for one by one", view=view)
    verdict = replace(_sampler_verdict(dataset, sampler), view=view)
    shuffled = sampler.shuffle if type(sampler) is PlanSampler else verdict.order.shuffle
    if shuffled is None:
        shuffled = bool(shuffle)
    if verdict.native and not shuffled and not view._engine.readable_in_order(shuffle_bytes):
        reason = (
            "the selection jumps between blocks, is not shuffled, and does not fit shuffle_bytes: honoured index by "
            "index, which decodes blocks many times over. Raise shuffle_bytes, sort its indices, or shuffle"
        )
        return replace(verdict, native=False, reason=reason, jumps=True)
    return verdict


def _sampler_verdict(dataset: Any, sampler: Any) -> Verdict:
    if sampler is None:
        return Verdict(True, "a Zenith dataset without a sampler")
    kind = type(sampler)
    if kind is PlanSampler and sampler.dataset is dataset:
        return Verdict(True, "a PlanSampler is the plan itself")
    if kind is SequentialSampler and sampler.data_source is dataset:
        return Verdict(True, "a SequentialSampler is file order", Order(shuffle=False))
    whole = kind is RandomSampler and not sampler.replacement and sampler.num_samples == len(dataset)
    if whole and sampler.data_source is dataset:
        return Verdict(True, "a RandomSampler over all samples is a shuffled plan", Order(shuffle=True))
    if kind is DistributedSampler and sampler.dataset is dataset:
        order = Order(sampler.shuffle, sampler.seed, sampler.rank, sampler.num_replicas, sampler.drop_last)
        return Verdict(True, "a DistributedSampler is a plan for its rank", order)
    return Verdict(False, f"sampler={kind.__name__} is honoured index by index, which decodes blocks many times over")
