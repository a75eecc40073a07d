"""Decides whether a loader can run natively, and says why."""

from __future__ import annotations

import functools
import operator
import os
from dataclasses import dataclass, replace
from typing import Any

import zenith
from torch.utils.data import DistributedSampler, RandomSampler, SequentialSampler

from zenith_torch import collation
from zenith_torch.batching import Batches, Share, innermost, taken_apart
from zenith_torch.sampler import PlanSampler
from zenith_torch.views import native_view

_OWN_ORDER = Batches(None)


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
    batches: Batches = _OWN_ORDER
    view: zenith.Dataset | None = None
    """What the engine reads: the dataset, or the view that a tree of ``Subset`` and ``ConcatDataset`` stands for."""
    jumps: bool = False
    """Not native only because the samples are wanted in an order that jumps between blocks."""

    @property
    def sampler(self) -> Any:
        """The sampler that the order is that of; its epoch counts."""
        return self.batches.sampler

    @property
    def share(self) -> Share | None:
        """This process's part, where a library shares out the batches."""
        return self.batches.share


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


class Recogniser:
    """Judges a loader whenever what it is made of has changed: libraries assign hooks and samplers to finished ones.

    Args:
        dataset: the loader's.
        shuffle_bytes, on_error: see the loader.
    """

    def __init__(self, dataset: Any, shuffle_bytes: int, on_error: str) -> None:
        self.own_sampler: PlanSampler | None = None
        """The sampler that the loader made itself, where the program gave none."""
        self._dataset = dataset
        self._shuffle_bytes = shuffle_bytes
        self._skips = on_error != "raise"
        self._view: zenith.Dataset | str | None = None
        self._seen: tuple[Any, ...] = ()
        self._inner: Any = None
        self._verdict = Verdict(False, "not judged yet")

    def arguments(self, batches: Batches | str, shuffle: bool, collate_fn: Any, worker_init_fn: Any) -> Verdict:
        """The verdict on a loader that is being made, before torch makes its batch sampler."""
        return self._judge(batches, shuffle, collate_fn, worker_init_fn)

    def verdict(self, batch_sampler: Any, collate_fn: Any, worker_init_fn: Any) -> Verdict:
        """The verdict on a loader with these attributes; the last one, if they are the same as then."""
        if isinstance(self._view, str):
            return self._verdict
        seen = (batch_sampler, getattr(self._inner, "sampler", None), collate_fn, worker_init_fn)
        if len(self._seen) == len(seen) and all(map(operator.is_, seen, self._seen)):
            return self._verdict
        self._inner = innermost(batch_sampler)
        self._seen = (batch_sampler, getattr(self._inner, "sampler", None), collate_fn, worker_init_fn)
        batches = ONE_BY_ONE if batch_sampler is None else taken_apart(batch_sampler)
        if self._skips and isinstance(batches, Batches) and batches.recorder is not None:
            batches = "on_error= may skip samples, and the indices of predictions are recorded: asked for one by one"
        self._verdict = self._judge(batches, False, collate_fn, worker_init_fn)
        return self._verdict

    def look_again(self) -> None:
        """Forgets the last verdict: what it rests on beside the loader's attributes may have changed."""
        self._seen = ()

    def _judge(self, batches: Batches | str, shuffle: bool, collate_fn: Any, worker_init_fn: Any) -> Verdict:
        sampler = None if isinstance(batches, str) else batches.sampler
        if self._view is None:
            plan = sampler if isinstance(sampler, PlanSampler) and sampler.dataset is self._dataset else None
            self._view = native_view(self._dataset) if plan is None else plan.view
        view = self._view
        if isinstance(view, str):
            self._verdict = Verdict(False, view)
            return self._verdict
        objection = collation.objection(collate_fn)
        if objection is None and worker_init_fn is not None and not _only_seeds(worker_init_fn):
            objection = "worker_init_fn= was given: samples are asked for one by one, as torch does it"
        if objection is None and isinstance(batches, str):
            objection = batches
        if objection is not None or isinstance(batches, str):
            return Verdict(False, objection or "", view=view)
        verdict = _sampler_verdict(self._dataset, None if sampler is self.own_sampler else sampler)
        verdict = replace(verdict, view=view, batches=batches)
        if verdict.native and batches.share is not None:
            verdict = _shared_out(verdict, batches.share)
        shuffled = sampler.shuffle if isinstance(sampler, PlanSampler) else verdict.order.shuffle
        if shuffled is None:
            shuffled = shuffle
        if verdict.native and not shuffled and not view._engine.readable_in_order(self._shuffle_bytes):
            return replace(verdict, native=False, reason=_JUMPS, jumps=True)
        return verdict


ONE_BY_ONE = "batch_size=None: samples are asked for one by one"
_JUMPS = (
    "the selection jumps between blocks, is not shuffled, and does not fit shuffle_bytes: honoured index by index, which "
    "decodes blocks many times over. Raise shuffle_bytes, sort its indices, or shuffle"
)


def _sampler_verdict(dataset: Any, sampler: Any) -> Verdict:
    if sampler is None:
        return Verdict(True, "a Zenith dataset without a sampler")
    kind = type(sampler)
    if kind is PlanSampler and sampler.dataset is dataset:
        return Verdict(True, "a PlanSampler is the plan itself")
    if kind is SequentialSampler and sampler.data_source is dataset:
        return Verdict(True, "a SequentialSampler is file order", Order(shuffle=False))
    is_random = kind is RandomSampler or _is_seedable(kind)
    whole = is_random and not sampler.replacement and sampler.num_samples == len(dataset)
    if whole and sampler.data_source is dataset:
        seed = None if kind is RandomSampler else sampler.initial_seed
        return Verdict(True, f"a {kind.__name__} over all samples is a shuffled plan", Order(shuffle=True, seed=seed))
    if kind is DistributedSampler and sampler.dataset is dataset:
        order = Order(sampler.shuffle, sampler.seed, sampler.rank, sampler.num_replicas, sampler.drop_last)
        return Verdict(True, "a DistributedSampler is a plan for its rank", order)
    return Verdict(False, f"sampler={kind.__name__} is honoured index by index, which decodes blocks many times over")


def _shared_out(verdict: Verdict, share: Share) -> Verdict:
    """Natively each process reads its own share of the blocks, instead of all of them for a part of the batches."""
    if isinstance(verdict.sampler, DistributedSampler) and verdict.sampler.num_replicas > 1:
        kind = type(verdict.sampler).__name__
        return replace(
            verdict, native=False, reason=f"a {kind} of {verdict.sampler.num_replicas} ranks is shared out again"
        )
    reason = f"{verdict.reason}; Accelerate shares it out among {share.world_size} processes"
    order = replace(verdict.order, rank=share.rank, world_size=share.world_size)
    return replace(verdict, reason=reason, order=order)


def _is_seedable(kind: type) -> bool:
    """Whether it is Accelerate's ``RandomSampler`` with a seed and an epoch, found without importing Accelerate."""
    return kind.__module__ == "accelerate.data_loader" and kind.__qualname__ == "SeedableRandomSampler"


_SEEDERS = {
    ("lightning.fabric.utilities.seed", "pl_worker_init_function"),
    ("lightning_fabric.utilities.seed", "pl_worker_init_function"),
    ("transformers.trainer_utils", "seed_worker"),
}
"""What trainers set as ``worker_init_fn``: it seeds Python's generators in a worker, which the engine has no use for."""


def _only_seeds(worker_init_fn: Any) -> bool:
    while type(worker_init_fn) is functools.partial:
        worker_init_fn = worker_init_fn.func
    name = (getattr(worker_init_fn, "__module__", None), getattr(worker_init_fn, "__qualname__", None))
    return name in _SEEDERS
