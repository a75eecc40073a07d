"""The loader's part of resuming over datasets that are not read natively: which state it has, and which it was given."""

from __future__ import annotations

import copy
import weakref
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import BatchSampler
from zenith.errors import StateError

from zenith_torch import randomness
from zenith_torch.account import Account
from zenith_torch.iterators import _SingleProcessDataLoaderIter
from zenith_torch.place import Origin, Place, Snapshot
from zenith_torch.plan import Plan
from zenith_torch.process.iterator import _MultiProcessingDataLoaderIter
from zenith_torch.sampler import PlanSampler
from zenith_torch.sampler_tree import SamplerTree, is_stateful, keeps_dataset_state

if TYPE_CHECKING:
    from zenith_torch.loader import DataLoader


def check_every(every: Any) -> None:
    """Refuses what is no number of steps between two snapshots.

    Raises:
        ValueError: ``every`` is neither ``None`` nor an ``int`` of 0 or more.
    """
    if every is not None and (not isinstance(every, int) or isinstance(every, bool) or every < 0):
        raise ValueError(f"snapshot_every_n_steps must be None or an int >= 0, got {every!r}")


class Resume:
    """Holds the place of the newest iterator, and the plan of a loaded state until an iterator has taken it up."""

    def __init__(self) -> None:
        self.plan: Plan | None = None
        self._place: Place | None = None
        self._account: Account | None = None
        self._live: weakref.ref[Any] | None = None
        self.is_asked = False
        """Whether anybody has asked for a state, or given one: workers tell theirs only then."""

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_live": None}

    def iterator(self, loader: DataLoader[Any]) -> Any:
        """Torch's iterator for these workers, in the version that knows its place."""
        if self.plan is not None:
            self._check(loader, self.plan)
        if loader.num_workers == 0:
            return _SingleProcessDataLoaderIter(loader)
        loader.check_worker_number_rationality()
        return _MultiProcessingDataLoaderIter(loader)

    def begin(self, place: Place, account: Account, iterator: Any) -> None:
        """An iterator stands at its beginning: what was loaded is used up."""
        self._place, self._account, self.plan = place, account, None
        self._live = weakref.ref(iterator)

    def _ask(self) -> None:
        if self.is_asked:
            return
        self.is_asked = True
        iterator = None if self._live is None else self._live()
        if iterator is not None:
            iterator._on_asked()

    def stats(self) -> dict[str, Any]:
        """The account of the newest iterator."""
        return {"verdict": "no epoch has begun"} if self._account is None else self._account.stats()

    def state(self, loader: DataLoader[Any]) -> dict[str, Any]:
        """The state of the loader: of the newest iterator, or of the epoch that would begin now."""
        self._ask()
        if self.plan is not None:
            return self.plan.as_state()
        place, fresh = self._place, None if self._place is None else self._place.fresh
        if place is not None and place.template is not None and not place.finished and not place.pending:
            return {**place.template, "position": place.start + place.sent, "length": _length(loader)}
        if place is not None and fresh is not None and not place.finished and place.sent == place.sent_before:
            return replace(fresh, origin=place.origin, num_workers=loader.num_workers).as_state()
        tree = SamplerTree(loader._index_sampler, loader.generator)
        plan = Plan(
            kind="iterable" if loader._dataset_kind == 1 else "map",
            length=_length(loader),
            order="" if loader._dataset_kind == 1 else tree.name,
            batch_size=loader.batch_size,
            num_workers=loader.num_workers,
            origin=Origin(),
        )
        if place is None or place.finished:
            plan.finished = place is not None
            live: Any = loader._iterator
            plan.origin = _origin_now(loader, tree, None if live is None else live._base_seed)
            plan.snapshot = _snapshot_now(tree)
        elif place.begun:
            plan.origin = place.origin
            plan.position, plan.missing = place.reached()
            plan.offset = place.offset
            first = min(plan.missing, default=plan.position)
            past = [one for one in place.snapshots if one.number <= first]
            plan.snapshot = past[-1] if past else None
        else:
            plan.origin = _origin_now(loader, tree, place.origin.base_seed)
            plan.origin.at_iter = place.origin.at_iter
            plan.snapshot = _snapshot_now(tree)
        if plan.kind == "iterable":
            workers = None if place is None or place.finished else place.workers
            plan.workers = [0] * loader.num_workers if workers is None and loader.num_workers else workers
        plan.worker_states = None if place is None else _worker_states(loader, place)
        plan.dataset = _dataset_state(loader, None if place is None or place.finished else place)
        state = plan.as_state()
        if place is not None and place.begun and not place.finished and not place.missing and _is_steady(state):
            place.template = dict(state)
        return state

    def load(self, loader: DataLoader[Any], state: dict[str, Any]) -> None:
        """Lets the next iterator begin where the state was taken.

        Raises:
            zenith.StateError: the state does not belong to this loader and dataset.
        """
        self._ask()
        if not state:
            self.plan = self._place = None
            return
        plan = Plan.of_state(copy.deepcopy(state))
        self._check(loader, plan)
        if plan.batch_size != loader.batch_size:
            assert loader.batch_size is not None
            plan = plan.rebatched(loader.batch_size)
        for text, generator in zip(plan.origin.generators or (), _generators(loader), strict=True):
            randomness.set_generator_state(torch.Generator(device=generator.device), text)
        distributed = SamplerTree(loader._index_sampler, None).distributed
        # A program that sets the epoch itself does so after this; within an epoch the state has the last word.
        if distributed is not None and plan.origin.epoch is not None:
            distributed.set_epoch(plan.origin.epoch)
        self.plan = plan

    def explain(self, loader: DataLoader[Any]) -> str:
        """Which iterator runs, and how its state works, in two lines."""
        workers = loader.num_workers
        if workers == 0:
            lines = ["iterator: _SingleProcessDataLoaderIter, in the calling thread"]
        else:
            lines = [f"iterator: _MultiProcessingDataLoaderIter, {workers} worker processes, batches by shared memory"]
        if loader._dataset_kind == 0:
            lines.append("state: by position in the order of the sampler; indices are drawn again, samples are not")
        elif is_stateful(loader.dataset):
            lines.append("state: the dataset's own" + (", of each worker" if workers else ""))
        else:
            lines.append(
                "state: by position; a resume draws the batches before it again and drops them, unless the dataset's "
                "iterator has a state_dict()"
            )
        return "\n".join(lines)

    def _check(self, loader: DataLoader[Any], plan: Plan) -> None:
        asked = any(told is not None and told.get("dataset") is not None for told in plan.worker_states or ())
        if asked and plan.num_workers == loader.num_workers and not keeps_dataset_state(loader.dataset):
            raise StateError("the state is of a dataset that has a state_dict(), and this one has none")
        kind = "iterable" if loader._dataset_kind == 1 else "map"
        if plan.kind != kind:
            raise StateError(f"the state is of a dataset of the {plan.kind} kind, and this one is of the {kind} kind")
        length = _length(loader)
        if None not in (length, plan.length) and length != plan.length:
            raise StateError(f"the state is of a dataset of {plan.length} samples, and this one has {length}")
        if kind == "iterable":
            _refuse_other_batches(loader, plan, "an iterable dataset is resumed by batches")
            if plan.num_workers != loader.num_workers:
                raise StateError(
                    f"the state was taken with num_workers={plan.num_workers}, not {loader.num_workers}: an iterable "
                    "dataset divides its samples among the workers itself, so their number must stay"
                )
            if len(plan.workers or ()) != loader.num_workers:
                raise StateError("the loader's state is damaged: not a count for each worker")
            if plan.dataset is not None and "dataset" in plan.dataset and not keeps_dataset_state(loader.dataset):
                raise StateError("the state is of a dataset that has a state_dict(), and this one has none")
            return
        tree = SamplerTree(loader._index_sampler, loader.generator)
        if plan.order != tree.name:
            raise StateError(f"the state is of the order {plan.order}, and this loader has {tree.name}")
        if len(plan.origin.generators or ()) != len(tree.generators):
            raise StateError(
                f"the state has {len(plan.origin.generators or ())} generators, and this loader has {len(tree.generators)}"
            )
        if (plan.snapshot is None or plan.snapshot.sampler is None) != (tree.stateful is None):
            raise StateError("the state was taken with another sampler: only one of the two has a state_dict()")
        if plan.offset and type(tree.chain[0]) is not BatchSampler:
            raise StateError("the loader's state is damaged: an offset in samples without batches of a fixed size")
        if type(tree.chain[0]) is not BatchSampler or None in (plan.batch_size, loader.batch_size):
            _refuse_other_batches(loader, plan, "the batches are not torch's BatchSampler's")
        elif plan.snapshot is not None:
            _refuse_other_batches(loader, plan, "the state of a sampler that has one belongs to whole batches")
        elif plan.missing:
            _refuse_other_batches(loader, plan, "batches overtook each other (in_order=False), and some are missing")


def _refuse_other_batches(loader: DataLoader[Any], plan: Plan, reason: str) -> None:
    if plan.batch_size != loader.batch_size:
        raise StateError(
            f"the state was taken with batch_size={plan.batch_size}, and this loader has {loader.batch_size}, which cannot "
            f"be honoured: {reason}"
        )


def _generators(loader: DataLoader[Any]) -> list[torch.Generator]:
    return SamplerTree(loader._index_sampler, loader.generator).generators


def _length(loader: DataLoader[Any]) -> int | None:
    if loader._dataset_kind == 1:
        return None
    try:
        return len(loader.dataset)  # type: ignore[arg-type]
    except (TypeError, NotImplementedError):
        return None


def _is_steady(state: dict[str, Any]) -> bool:
    """Whether only the position changes within the epoch; programs may ask at every step."""
    return state["kind"] == "map" and all(value is None or isinstance(value, (int, str)) for value in state.values())


def _origin_now(loader: DataLoader[Any], tree: SamplerTree, base_seed: int | None) -> Origin:
    """What an epoch that begins now will draw, found on copies of the generators."""
    own, process = loader.generator, randomness.copy_of(None)
    copies = {id(one): randomness.copy_of(one) for one in tree.generators}
    origin = Origin(base_seed=base_seed)
    if loader._dataset_kind == 0 and base_seed is None:
        origin.at_iter = tree.globals()
    if base_seed is None:
        origin.base_seed = randomness.draw(process if own is None else copies.get(id(own), process))
    if loader._dataset_kind == 1:
        return origin
    origin.at_first = tree.globals()
    if origin.at_first:
        origin.at_first["torch"] = randomness.generator_state(process)
    if tree.draws_seed:
        origin.seed = randomness.draw(process)
    if tree.generators:
        origin.generators = [randomness.generator_state(copies[id(one)]) for one in tree.generators]
    if tree.distributed is not None:
        origin.epoch = tree.distributed.epoch
    if isinstance(tree.distributed, PlanSampler):
        origin.plan_seed = tree.distributed.known_seed
    return origin


def _snapshot_now(tree: SamplerTree) -> Snapshot | None:
    stateful = tree.stateful
    return None if stateful is None else Snapshot(0, copy.deepcopy(stateful.state_dict()))


def _worker_states(loader: DataLoader[Any], place: Place) -> list[dict[str, Any] | None] | None:
    """What the workers are to begin with; those of an epoch that has ended go on only where they stay."""
    states = place.states
    if states is None or (place.finished and (loader._dataset_kind == 1 or loader._iterator is None)):
        return None
    told = states.latest if place.workers is None else states.cut(place.workers)
    return told if told is not None and any(told) else None


def _dataset_state(loader: DataLoader[Any], place: Place | None) -> dict[str, Any] | None:
    """What the dataset and its iterator say of themselves; they are asked in this process only."""
    if loader.num_workers:
        return None
    dataset = loader.dataset
    fetcher = None if place is None else place.source
    state: dict[str, Any] = {}
    if keeps_dataset_state(dataset):
        state["dataset"] = copy.deepcopy(dataset.state_dict())  # type: ignore[attr-defined]
    if fetcher is not None:
        if is_stateful(fetcher.dataset_iter):
            state["iterator"] = copy.deepcopy(fetcher.dataset_iter.state_dict())
        if fetcher.ended:
            state["ended"] = True
    return state or None
