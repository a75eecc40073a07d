"""Torch's two iterators, which know how far they have come and may begin in the midst of an epoch.

They bear the names of torch's classes: profilers look for them.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import _utils
from torch.utils.data import dataloader as torchs
from zenith.errors import ForkedEngineError, StateError

from zenith_torch.fetch import gathering
from zenith_torch.indices import Indices
from zenith_torch.place import Origin, Place
from zenith_torch.plan import Plan
from zenith_torch.process.context import Context, WithContext
from zenith_torch.process.interrupts import Interrupts
from zenith_torch.sampler_tree import SamplerTree, is_stateful, keeps_dataset_state

if TYPE_CHECKING:
    from zenith_torch.loader import DataLoader

_END = object()


class _Placed:
    """What both have in common: the place, and the plan of a loaded state."""

    _dataset: Any
    _dataset_kind: int
    _num_workers: int
    _num_yielded: int
    _sampler_iter: Any
    _next_data: Callable[[], Any]

    def __init__(self, loader: DataLoader[Any]) -> None:
        self._resume = loader._resume
        self._is_iterable = loader._dataset_kind == 1
        self._indices = Indices(SamplerTree(loader._index_sampler, loader.generator), loader.snapshot_every_n_steps)
        self._begin()
        super().__init__(loader)  # type: ignore[call-arg]
        self._settle()

    def _begin(self) -> None:
        """A new place: at the beginning of an epoch, or where the loaded state wants it."""
        plan = self._plan = self._resume.plan
        if plan is None:
            self._place = Place(Origin())
        else:
            self._place = Place(copy.deepcopy(plan.origin), plan.position, plan.missing)
        if self._is_iterable:
            # Batches of an iterable dataset are counted one by one, from the beginning of the epoch.
            self._place.start, self._place.begun = 0, True
        self._indices.place, self._indices.plan = self._place, plan
        self._early: list[Any] = []

    def _settle(self) -> None:
        """After torch's part of the beginning: from here on the loader's state is that of this epoch."""
        place, plan = self._place, self._plan
        place.origin.base_seed = self._base_seed
        if self._is_iterable:
            if self._num_workers:
                place.workers = [0] * self._num_workers
            if plan is not None:
                self._forward(plan)
                place.sent, place.finished, self._num_yielded = plan.position, False, plan.position
        place.fresh, place.sent_before = plan, place.sent
        self._resume.begin(place)

    # Torch's constructor sets these two, and goes on with what is found there: so they are not taken from the loader's
    # generators and samplers alone, where a state has a say.

    @property
    def _index_sampler(self) -> Any:
        return self._sampler if self._is_iterable else self._indices

    @_index_sampler.setter
    def _index_sampler(self, sampler: Any) -> None:
        self._sampler = sampler

    @property
    def _base_seed(self) -> Any:
        return self._seed

    @_base_seed.setter
    def _base_seed(self, drawn: Any) -> None:
        planned = None if self._plan is None else self._plan.origin.base_seed
        self._seed = drawn if planned is None else planned
        # Nothing has iterated the dataset yet, and whatever a new iterator draws from the process has been drawn: a
        # dataset that puts such a generator back finds it so.
        self._load_dataset(self._dataset)

    def _load_dataset(self, dataset: Any) -> None:
        """Gives a dataset its state back before anything iterates it."""
        plan = self._plan
        if plan is None or plan.dataset is None or plan.dataset.get("dataset") is None:
            return
        if not keeps_dataset_state(dataset):
            return
        dataset.load_state_dict(copy.deepcopy(plan.dataset["dataset"]))
        at_end = self._is_iterable and (plan.finished or plan.dataset.get("ended", False))
        if at_end and next(iter(dataset), _END) is not _END:
            # Loaded with the state of its end, it ends once before it begins anew, or it begins anew by itself.
            dataset.load_state_dict(copy.deepcopy(plan.dataset["dataset"]))

    def _forward(self, plan: Plan) -> None:
        """Moves an iterable dataset to where the plan wants it."""
        raise NotImplementedError

    def __next__(self) -> Any:
        if self._is_iterable or self._sampler_iter is None or torch.autograd._profiler_enabled():  # type: ignore[attr-defined]
            return super().__next__()  # type: ignore[misc]
        # What torch does, without making a record that no profiler reads.
        data = self._next_data()
        self._num_yielded += 1
        return data


class _SingleProcessDataLoaderIter(_Placed, torchs._SingleProcessDataLoaderIter):
    """Torch's iterator in the calling process."""

    def _next_data(self) -> Any:
        place = self._place
        try:
            data = super()._next_data()
        except Exception as error:
            # A sample that cannot be had is passed by, here as in torch: the next call is for the batch after it.
            # An interrupt is no such thing, and leaves the place where it is.
            place.finished = isinstance(error, StopIteration)
            if not self._is_iterable:
                place.sent = self._sampler_iter.taken
            raise
        place.finished = False
        place.sent = place.sent + 1 if self._is_iterable else self._sampler_iter.taken
        return data

    def _forward(self, plan: Plan) -> None:
        """Moves an iterable dataset on: by its own state if it has one, else by drawing what was drawn before."""
        fetcher, part = self._dataset_fetcher, plan.dataset
        if part is not None:
            if part.get("iterator") is not None:
                if not is_stateful(fetcher.dataset_iter):
                    raise StateError(
                        "the state is of a dataset whose iterator has a state_dict(), and this one has none"
                    )
                fetcher.dataset_iter.load_state_dict(copy.deepcopy(part["iterator"]))
            fetcher.ended = bool(part.get("ended", False))
            return
        for _ in range(plan.position):
            try:
                self._next_data()
            except StopIteration:
                break

    def _settle(self) -> None:
        super()._settle()
        fetcher = self._dataset_fetcher
        if self._auto_collation and not self._is_iterable:
            fetcher.fetch = gathering(self._dataset, self._collate_fn, fetcher.fetch) or fetcher.fetch
        if self._is_iterable and (keeps_dataset_state(self._dataset) or is_stateful(fetcher.dataset_iter)):
            self._place.source = fetcher


class _MultiProcessingDataLoaderIter(_Placed, torchs._MultiProcessingDataLoaderIter):
    """Torch's iterator over worker processes."""

    _worker_result_queue: Any
    _workers: list[Any]
    _last_worker = 0
    _shutdown = True  # Until torch's constructor has something to shut down.
    _kept: tuple[Any, ...] = ()
    """A batch on its way out of ``next()``. One that Ctrl-C stops there is the next one."""

    def __init__(self, loader: DataLoader[Any]) -> None:
        self._owner = os.getpid()
        interrupts = self._interrupts = Interrupts()
        is_held = interrupts.hold()
        try:
            super().__init__(WithContext(loader, Context(loader.multiprocessing_context)))  # type: ignore[arg-type]
        finally:
            if is_held:
                interrupts.release()
        if not self._pin_memory:
            # With pinned memory torch's own queue is waited for, which knows nothing of ours.
            self._worker_result_queue.interrupts = interrupts

    def __next__(self) -> Any:
        if self._worker_result_queue.is_forgotten:
            raise ForkedEngineError(
                f"this iterator belongs to the parent process ({self._owner}), and so do its workers. "
                "Create a new iterator in the child"
            )
        interrupts = self._interrupts
        if self._kept:
            self._recount()
        elif self._pin_memory or not interrupts.hold():
            return super().__next__()
        else:
            place = self._place
            before = place.sent, place.pending
            try:
                self._kept = (super().__next__(),)
            finally:
                try:
                    interrupts.release()
                except KeyboardInterrupt:
                    if self._kept:
                        self._uncount(*before)
                    raise
        # No call from here on: Python raises nothing between these.
        (data,) = self._kept
        self._kept = ()
        return data

    def _uncount(self, sent: int, pending: Any) -> None:
        """The batch that is kept has not been handed out: a state that is taken now has it still to come."""
        place = self._place
        self._after = place.sent, place.pending
        place.sent, place.pending = sent, pending
        if place.workers is not None:
            place.workers[self._last_worker] -= 1

    def _recount(self) -> None:
        place = self._place
        place.sent, place.pending = self._after
        if place.workers is not None:
            place.workers[self._last_worker] += 1

    def __del__(self) -> None:
        # At the end of the interpreter the names of this module are gone, and the workers are let go of by `living`.
        if self._shutdown or _utils is None or _utils.python_exit_status is not False:
            return
        interrupts = Interrupts()
        if not interrupts.hold():
            self._shutdown_workers()
            return
        try:
            self._shutdown_workers()
        finally:
            interrupts.release_in_destructor()

    def _shutdown_workers(self) -> None:
        if self._shutdown or self._owner != os.getpid():
            return
        if not hasattr(self, "_workers_status"):
            # A worker could not be started; those before it are there.
            self._workers_status = [True] * len(self._workers)
        try:
            super()._shutdown_workers()
        finally:
            for worker in self._workers:
                if self._shutdown and worker.is_alive():
                    # It does not listen to what torch ends workers with.
                    worker.kill()
                    worker.join()

    def _reset(self, loader: DataLoader[Any], first_iter: bool = False) -> None:
        if first_iter:
            # All workers are there. What remains may take as long as the sampler likes.
            self._interrupts.release()
            super()._reset(loader, first_iter)
            return
        self._begin()
        self._kept = ()
        try:
            super()._reset(loader, first_iter)
        except KeyboardInterrupt:
            # Workers would answer later what they were asked now: the next epoch has others.
            loader._iterator = None
            self._shutdown_workers()
            raise
        self._settle()

    def _next_data(self) -> Any:
        if self._early:
            data, self._last_worker = self._early.pop(0)
            self._count()
            return data
        try:
            data = super()._next_data()
        except Exception as error:
            self._place.finished = isinstance(error, StopIteration)
            if not self._is_iterable:
                self._count()
            raise
        self._count()
        self._place.finished = False
        return data

    def _count(self) -> None:
        place = self._place
        if place.workers is not None:
            place.sent += 1
            place.workers[self._last_worker] += 1
        elif self._in_order:
            place.sent = self._rcvd_idx
        else:
            place.sent = self._send_idx
            place.pending = tuple(self._task_info)

    def _process_data(self, data: Any, worker_idx: int) -> Any:
        self._last_worker = worker_idx
        return super()._process_data(data, worker_idx)  # type: ignore[no-untyped-call]

    def _forward(self, plan: Plan) -> None:
        """Drops from each worker as many batches as it has given before; others that come meanwhile are kept."""
        left = list(plan.workers or ())
        early = []
        while any(left):
            try:
                data = self._next_data()
            except StopIteration:
                break
            worker = self._last_worker
            if left[worker]:
                left[worker] -= 1
            else:
                early.append((data, worker))
        self._early = early
        self._place.workers = list(plan.workers or ())
