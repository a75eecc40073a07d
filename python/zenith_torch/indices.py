"""The index sampler of an iterator, watched: what its order depends on is noted, and an order is taken up again.

Only indices are drawn again to come to a position; no sample is.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import Any

import torch
from torch.utils.data import BatchSampler

from zenith_torch import randomness
from zenith_torch.place import Origin, Place, Snapshot
from zenith_torch.plan import Plan
from zenith_torch.sampler import PlanSampler
from zenith_torch.sampler_tree import SamplerTree, is_stateful

_END = object()


class Indices:
    """Stands where torch's iterators hold the index sampler; each ``iter()`` begins an epoch, or takes one up."""

    def __init__(self, tree: SamplerTree, every: int | None) -> None:
        self.tree = tree
        self._sampler = tree.chain[0]
        self._every = every
        self.place = Place(Origin())
        self.plan: Plan | None = None

    def __len__(self) -> int:
        return len(self._sampler)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_sampler"], name)

    def __iter__(self) -> IndexStream:
        tree, plan, origin = self.tree, self.plan, self.place.origin
        first = None if plan is None else self._load(plan)
        before = tree.globals()
        at_iter = {} if plan is None else _order_of(plan).at_iter
        randomness.put_globals(at_iter)
        offset = self.place.offset
        real: Any = _rest(self._sampler, offset) if offset else iter(self._sampler)
        randomness.put_globals({name: before[name] for name in at_iter if name in before})
        if plan is not None:
            if plan.snapshot is not None and plan.snapshot.iterator is not None and is_stateful(real):
                real.load_state_dict(copy.deepcopy(plan.snapshot.iterator))
        elif before:
            origin.at_iter = _drawn_from(before)
        return IndexStream(real, tree, self.place, plan, first, self._every)

    def _load(self, plan: Plan) -> Snapshot | None:
        """Puts the samplers where the plan wants them, ahead of each ``iter()``: some begin to move there already.

        Returns the state that they are in then: the loaded one. Asked themselves, some tell it only once they move.
        """
        distributed = self.tree.distributed
        if distributed is not None and plan.origin.epoch is not None and plan.position > 0:
            distributed.set_epoch(plan.origin.epoch)
        if isinstance(distributed, PlanSampler) and plan.origin.plan_seed is not None:
            distributed.use_seed(plan.origin.plan_seed)
        stateful = self.tree.stateful
        if stateful is None or plan.snapshot is None or plan.snapshot.sampler is None:
            return plan.snapshot
        stateful.load_state_dict(copy.deepcopy(plan.snapshot.sampler))
        if plan.finished:
            # Loaded with the state of its end, a sampler ends at once before it begins anew, or begins anew by itself.
            if next(iter(stateful), _END) is _END:
                return None
            stateful.load_state_dict(copy.deepcopy(plan.snapshot.sampler))
        return plan.snapshot


class IndexStream:
    """The index batches of one epoch, from where the plan begins."""

    def __init__(
        self,
        real: Iterator[Any],
        tree: SamplerTree,
        place: Place,
        plan: Plan | None,
        first: Snapshot | None,
        every: int | None,
    ) -> None:
        self._real = real
        self._tree = tree
        self._place = place
        self._plan = plan
        self._first_snapshot = first
        self._every = every
        self._number = 0 if first is None else first.number
        self._begun = False
        self._keeps_snapshots = tree.stateful is not None or is_stateful(real)
        self._is_plain = False
        self.taken = 0
        """Index batches given to the iterator."""

    def __iter__(self) -> IndexStream:
        return self

    def __next__(self) -> Any:
        if not self._is_plain:
            return self._next_noted()
        batch = next(self._real)
        self.taken += 1
        return batch

    def _next_noted(self) -> Any:
        place = self._place
        batch = self._draw() if self._begun else self._first()
        while not self._is_wanted():
            batch = self._draw()
        self._is_plain = not self._keeps_snapshots and self._number >= place.start
        self.taken += 1
        return batch

    def _is_wanted(self) -> bool:
        """Whether the batch drawn last is one that was not handed out before."""
        last, place = self._number - 1, self._place
        return last >= place.start or last in place.missing

    def _draw(self) -> Any:
        batch = next(self._real)
        self._number += 1
        due = self._keeps_snapshots and self._every is not None and self._number % (self._every or 1) == 0
        if due and not self._has_ended(batch):
            self._snap()
        return batch

    def _has_ended(self, batch: Any) -> bool:
        """Whether torch's ``BatchSampler`` met the sampler's end in this batch: then its state is of the next epoch."""
        outer = self._tree.chain[0]
        return type(outer) is BatchSampler and len(batch) < outer.batch_size

    def _first(self) -> Any:
        """Notes (or puts back) what the order depends on, and draws up to the first batch that is wanted."""
        tree, place, plan = self._tree, self._place, self._plan
        self._begun = place.begun = True
        if self._first_snapshot is not None:
            place.snapshots.append(self._first_snapshot)
        elif self._keeps_snapshots:
            self._snap()
        if plan is None:
            self._note(place.origin)
            before = tree.globals()
            try:
                return self._draw()
            finally:
                place.origin.at_first = _drawn_from(before)
        origin = _order_of(plan)
        if origin.generators is not None:
            for generator, text in zip(tree.generators, origin.generators, strict=True):
                randomness.set_generator_state(generator, text)
        seed = origin.seed if tree.draws_seed else None
        before = randomness.take_globals() if origin.at_first else {}
        randomness.put_globals(origin.at_first)
        if seed is not None:
            # The sampler draws from a generator with that seed, as it would had it drawn the seed, and the draw itself
            # is made for nothing: the program's own generator is to move on as it does with any new iterator.
            tree.leaf.generator = torch.Generator().manual_seed(seed)
        try:
            batch = self._draw()
            while not self._is_wanted():
                batch = self._draw()
            return batch
        finally:
            if seed is not None:
                tree.leaf.generator = None
                randomness.draw()
            randomness.put_globals({name: before[name] for name in origin.at_first if name in before})

    def _note(self, origin: Origin) -> None:
        tree = self._tree
        if tree.draws_seed:
            origin.seed = randomness.draw(randomness.copy_of(None))
        if tree.generators:
            origin.generators = [randomness.generator_state(one) for one in tree.generators]
        if tree.distributed is not None:
            origin.epoch = tree.distributed.epoch
        if isinstance(tree.distributed, PlanSampler):
            origin.plan_seed = tree.distributed.seed

    def _snap(self) -> None:
        """Keeps the samplers' state that belongs to the batches drawn so far; it is wanted when those are handed out."""
        snapshots, (end, missing) = self._place.snapshots, self._place.reached()
        while len(snapshots) > 1 and snapshots[1].number <= min(missing, default=end):
            del snapshots[0]
        stateful = self._tree.stateful
        snapshots.append(
            Snapshot(
                self._number,
                None if stateful is None else copy.deepcopy(stateful.state_dict()),
                copy.deepcopy(self._real.state_dict()) if is_stateful(self._real) else None,  # type: ignore[attr-defined]
            )
        )


def _rest(batches: BatchSampler, offset: int) -> Iterator[Any]:
    """The batches of an epoch's samples but the first ones."""
    samples = iter(batches.sampler)
    deque(islice(samples, offset), maxlen=0)
    yield from BatchSampler(samples, batches.batch_size, batches.drop_last)


def _order_of(plan: Plan) -> Origin:
    """What to put back for the order: nothing where a sampler or its iterator keeps a state, and has the say."""
    return plan.origin if plan.snapshot is None else Origin()


def _drawn_from(before: dict[str, str]) -> dict[str, str]:
    """Of the states before, those that are others now."""
    now = randomness.take_globals() if before else {}
    return {name: state for name, state in before.items() if now.get(name) != state}
