"""Torch's two iterators, which know how far they have come and may begin in the midst of an epoch.

They bear the names of torch's classes: profilers look for them.
"""

from __future__ import annotations

import copy
import logging
import math
import time
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch._utils import ExceptionWrapper
from torch.utils.data import dataloader as torchs
from zenith.errors import StateError

from zenith_torch.account import Account
from zenith_torch.bad_samples import Policy
from zenith_torch.fetch import gathering
from zenith_torch.indices import Indices
from zenith_torch.place import Origin, Place
from zenith_torch.plan import Plan
from zenith_torch.prefetch import ByteBound
from zenith_torch.process.context import Context, WithContext
from zenith_torch.process.setup import Setup
from zenith_torch.process.stalls import stall_of
from zenith_torch.process.watch import IDLE
from zenith_torch.sampler_tree import SamplerTree, is_stateful, keeps_dataset_state, restore_dataset
from zenith_torch.samples import Parcel, Reader
from zenith_torch.watchdog import Watchdog
from zenith_torch.worker_states import WorkerStates

if TYPE_CHECKING:
    from zenith_torch.loader import DataLoader

_log = logging.getLogger("zenith_torch")

_LOOK_S = 5.0
"""How often it is looked whether workers and the thread that pins live, where no pipe tells."""


class _Placed:
    """What both have in common: the place, and the plan of a loaded state."""

    _dataset: Any
    _dataset_kind: int
    _num_workers: int
    _num_yielded: int
    _auto_collation: bool
    _last_worker: int | None = None
    _sampler_iter: Any

    def __init__(self, loader: DataLoader[Any]) -> None:
        self._resume = loader._resume
        self._policy = Policy.of(loader)
        self._stall_timeout = loader.stall_timeout
        self._every = loader.snapshot_every_n_steps
        self._worker_count = loader.num_workers
        self._byte_bound = None if loader.prefetch_bytes is None else ByteBound(loader.prefetch_bytes)
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
            self._place = Place(copy.deepcopy(plan.origin), plan.position, plan.missing, plan.offset)
        if self._is_iterable:
            # Batches of an iterable dataset are counted one by one, from the beginning of the epoch.
            self._place.start, self._place.begun = 0, True
        self._indices.place, self._indices.plan = self._place, plan
        self._early: list[Any] = []
        self._drawn: dict[int, Any] = {}
        self._account = Account(self._policy, self._is_iterable)

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
        self._resume.begin(place, self._account, self)

    def _next_data(self) -> Any:
        account = self._account
        asked = account.ask()
        try:
            while True:
                data = self._next_placed()
                if type(data) is not Parcel:
                    account.count(self._take_size())
                    return data
                if data.state is not None:
                    self._note(data)
                if isinstance(data.data, ExceptionWrapper):
                    data.data.reraise()  # type: ignore[no-untyped-call]
                account.unpack(data, self._take_size(), self._last_worker)
                if not data.is_empty:
                    return data.data
        except Exception:
            self._take_size()
            raise
        finally:
            account.answer(asked)

    def _note(self, parcel: Parcel) -> None:
        """A worker has told its state."""
        place = self._place
        assert place.states is not None
        assert parcel.state is not None
        assert parcel.worker is not None
        place.states.note(parcel.worker, parcel.state)
        place.template = None

    def _on_asked(self) -> None:
        """Somebody wants states from now on."""

    def _next_placed(self) -> Any:
        """Torch's ``_next_data()``, after which the place is known."""
        raise NotImplementedError

    def _next_index(self) -> Any:
        index = super()._next_index()  # type: ignore[misc]
        if not self._is_iterable:
            self._drawn[self._next_task()] = index if self._auto_collation else (index,)
        return index

    def _next_task(self) -> int:
        """Number of the task that the index batch drawn next is for."""
        return 0

    def _take_size(self) -> int:
        """Samples that the index batch of the batch just handed out has."""
        return _size(self._drawn.pop(0, ()))

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
        at_end = self._is_iterable and (plan.finished or plan.dataset.get("ended", False))
        restore_dataset(dataset, plan.dataset["dataset"], at_end)

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

    _watchdog: Watchdog | None = None

    def _next_index(self) -> Any:
        index = super()._next_index()
        if self._watchdog is not None:
            self._watchdog.begin(self._drawn.get(0))
        return index

    def _next_placed(self) -> Any:
        place = self._place
        try:
            data = torchs._SingleProcessDataLoaderIter._next_data(self)  # type: ignore[no-untyped-call]
        except Exception as error:
            # A sample that cannot be had is passed by, here as in torch: the next call is for the batch after it.
            # An interrupt is no such thing, and leaves the place where it is.
            place.finished = isinstance(error, StopIteration)
            if not self._is_iterable:
                place.sent = self._sampler_iter.taken
            raise
        finally:
            if self._watchdog is not None:
                self._watchdog.end()
        place.finished = False
        place.sent = place.sent + 1 if self._is_iterable else self._sampler_iter.taken
        return data

    def _forward(self, plan: Plan) -> None:
        """Moves an iterable dataset on: by its own state if it has one, else by drawing what was drawn before."""
        fetcher, part = self._dataset_fetcher._fetcher, plan.dataset
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
                self._next_placed()
            except StopIteration:
                break

    def _settle(self) -> None:
        fetcher, policy, listed = self._dataset_fetcher, self._policy, self._account.listed
        if self._stall_timeout is not None:
            self._watchdog = Watchdog(self._stall_timeout)
            weakref.finalize(self, self._watchdog.stop)
        fetch = fetcher.fetch
        if policy.skips or self._watchdog is not None:
            fetch = Reader(fetcher, self._is_iterable, policy.skips, listed, self._watchdog)
        if self._auto_collation and not self._is_iterable and not listed:
            fetch = gathering(self._dataset, self._collate_fn, fetch) or fetch
        self._dataset_fetcher = _Fetcher(fetcher, fetch)
        super()._settle()
        if self._is_iterable and (keeps_dataset_state(self._dataset) or is_stateful(fetcher.dataset_iter)):
            self._place.source = fetcher


class _Fetcher:
    """Torch's fetcher with another way to fetch: beside it, as an attribute of it would make a cycle that keeps the dataset."""

    def __init__(self, fetcher: Any, fetch: Callable[[Any], Any]) -> None:
        self._fetcher = fetcher
        self.fetch = fetch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._fetcher, name)


class _MultiProcessingDataLoaderIter(_Placed, torchs._MultiProcessingDataLoaderIter):
    """Torch's iterator over worker processes."""

    _shutdown = True
    """There is nothing to shut down before there are workers; torch's constructor says when there are."""
    _drains = False
    """Batches that come are of the last epoch, and are not handed out."""
    _is_begun = False
    """It stands where its epoch is to go on, so an error of ``next()`` leaves it whole."""

    def __init__(self, loader: DataLoader[Any]) -> None:
        self._setups: list[Setup] = []
        context = Context(loader.multiprocessing_context, self._first_setup, loader.stall_timeout is not None)
        super().__init__(WithContext(loader, context))  # type: ignore[arg-type]

    def _setup(self, worker: int) -> Setup:
        """What a worker is told before its epoch begins."""
        told = None if self._plan is None else self._told(self._plan)
        every = max(self._every, 1) if self._resume.is_asked and self._every is not None else None
        return Setup(self._policy.skips, self._account.listed, every, None if told is None else told[worker])

    def _first_setup(self, worker: int) -> Setup:
        setup = self._setup(worker)
        self._setups.append(replace(setup, start=None))
        return setup

    def _begin(self) -> None:
        before = self._place.states if self._setups else None
        super()._begin()
        # Workers that stay go on with what they had; the beginning of an iterable dataset has no state.
        told = None if before is None or self._is_iterable else before.latest
        if self._plan is not None:
            told = self._told(self._plan)
        self._place.states = WorkerStates(self._worker_count, told)

    def _told(self, plan: Plan) -> list[dict[str, Any] | None] | None:
        """The states of workers in a plan, if it is of as many."""
        return plan.worker_states if plan.num_workers == self._worker_count else None

    def _reset(self, loader: DataLoader[Any], first_iter: bool = False) -> None:
        if first_iter:
            super()._reset(loader, first_iter)
            return
        self._is_begun = False
        # Batches that the last epoch did not come to were made all the same.
        self._drains = not self._is_iterable and self._resume.plan is None
        for info in self._task_info.values():
            if len(info) == 2:
                self._peek(info[1])
        self._begin()
        for worker, tasks in enumerate(self._index_queues):
            self._send(tasks, worker, self._setup(worker))
        if self._stall_timeout is not None:
            self._late_at = time.monotonic() + self._stall_timeout
        super()._reset(loader, first_iter)
        self._drains = False
        self._settle()

    def _send(self, tasks: Any, worker: int, setup: Setup) -> None:
        """Tells a worker what has changed since it was told last."""
        if setup.start is not None or setup != self._setups[worker]:
            self._setups[worker] = replace(setup, start=None)
            tasks.put(setup)

    def _on_asked(self) -> None:
        if self._shutdown:
            return
        for worker, tasks in enumerate(self._index_queues):
            if self._persistent_workers or self._workers_status[worker]:
                self._send(tasks, worker, replace(self._setup(worker), start=None))

    def _peek(self, data: Any) -> None:
        if self._drains and type(data) is Parcel and data.state is not None:
            self._note(data)

    # Torch's cycle begins with the first worker. A batch goes to the worker that it would have gone to in the unbroken run.

    @property
    def _worker_queue_idx_cycle(self) -> Any:
        return self._cycle

    @_worker_queue_idx_cycle.setter
    def _worker_queue_idx_cycle(self, cycle: Any) -> None:
        plan = self._plan
        if plan is not None and not self._is_iterable and self._in_order and not plan.missing:
            for _ in range(plan.position % self._num_workers):
                next(cycle)
        self._cycle = cycle

    def _settle(self) -> None:
        super()._settle()
        self._is_begun = True

    def _next_placed(self) -> Any:
        if self._early:
            data, self._last_worker = self._early.pop(0)
            self._count()
            return data
        if self._stall_timeout is not None:
            self._late_at = time.monotonic() + self._stall_timeout
        try:
            data = torchs._MultiProcessingDataLoaderIter._next_data(self)  # type: ignore[no-untyped-call]
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
            assert self._last_worker is not None
            place.sent += 1
            place.workers[self._last_worker] += 1
        elif self._in_order:
            place.sent = self._rcvd_idx
        else:
            place.sent = self._send_idx
            place.pending = tuple(self._task_info)

    def _get_data(self) -> Any:
        seconds = self._stall_timeout
        result = super()._get_data() if seconds is None else self._get_in_time(seconds)  # type: ignore[no-untyped-call]
        self._peek(result[1])
        return result

    def _get_in_time(self, seconds: float) -> Any:
        over_at = time.monotonic() + self._timeout if self._timeout > 0 else math.inf
        while True:
            left = min(self._late_at, over_at) - time.monotonic()
            success, data = self._try_get_data(max(0.0, min(left, _LOOK_S)))  # type: ignore[no-untyped-call]
            if success:
                return data
            now = time.monotonic()
            if now >= over_at:
                raise RuntimeError(f"DataLoader timed out after {self._timeout} seconds")
            if now >= self._late_at:
                self._on_late(seconds)
            if self._pin_memory and not self._pin_memory_thread.is_alive():
                raise RuntimeError("Pin memory thread exited unexpectedly")

    def _on_late(self, seconds: float) -> None:
        """Says where the worker is that has the batch: as an error, or in the log where an error would lose the iterator."""
        waiting = [task for task, info in self._task_info.items() if len(info) == 1]
        awaited = self._rcvd_idx if self._in_order else min(waiting, default=None)
        watches = [channel.watch for channel in self._index_queues]  # type: ignore[attr-defined]
        if awaited in self._task_info:
            worker = self._task_info[awaited][0]
        else:
            # What earlier epochs left to do is being finished.
            awaited = None
            busy = [i for i, watch in enumerate(watches) if watch is not None and watch.note()[0] != IDLE]
            worker = busy[0] if busy else 0
        watch = watches[worker]
        assert watch is not None
        stall = stall_of(seconds, worker, self._workers[worker].pid, watch, awaited, self._drawn)
        if self._is_begun:
            raise stall
        _log.warning("%s", stall)
        self._late_at = time.monotonic() + seconds

    def _try_put_index(self) -> None:
        bound, count = self._byte_bound, self._num_workers
        if bound is None:
            super()._try_put_index()
            return
        room = bound.room(count, self._prefetch_factor * count)
        while sum(len(info) == 2 or self._workers_status[info[0]] for info in self._task_info.values()) < room:
            before = self._send_idx
            super()._try_put_index()
            if self._send_idx == before:
                return

    def _next_task(self) -> int:
        return self._send_idx

    def _take_size(self) -> int:
        if self._is_iterable:
            return 0
        if self._in_order:
            return _size(self._drawn.pop(self._rcvd_idx - 1, ()))
        return sum(_size(self._drawn.pop(task)) for task in self._drawn.keys() - self._task_info)

    def _process_data(self, data: Any, worker_idx: int) -> Any:
        self._last_worker = worker_idx
        if self._byte_bound is not None:
            self._byte_bound.note(data.data if type(data) is Parcel else data)
        return super()._process_data(data, worker_idx)  # type: ignore[no-untyped-call]

    def _forward(self, plan: Plan) -> None:
        """Drops from each worker as many batches as it has given before; others that come meanwhile are kept."""
        told = plan.worker_states or [None] * self._num_workers
        begun = [0 if state is None else state.get("at", 0) for state in told]
        left = [given - at for given, at in zip(plan.workers or (), begun, strict=True)]
        early = []
        while any(left):
            try:
                data = self._next_placed()
            except StopIteration:
                break
            worker = self._last_worker
            assert worker is not None
            if type(data) is Parcel and data.state is not None:
                self._note(data)
            if left[worker]:
                left[worker] -= 1
            else:
                early.append((data, worker))
        self._early = early
        self._place.workers = list(plan.workers or ())


def _size(index: Any) -> int:
    """How many samples an index batch asks for; a batch sampler may give what has no length."""
    return len(index) if hasattr(index, "__len__") else 0
