"""Torch's iterator over worker processes. It bears the name of torch's class: profilers look for it."""

from __future__ import annotations

import logging
import math
import os
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from torch.utils.data import _utils
from torch.utils.data import dataloader as torchs
from zenith.errors import ForkedEngineError

from zenith_torch.placed import Placed, size_of
from zenith_torch.plan import Plan
from zenith_torch.prefetch import ByteBound
from zenith_torch.process import deaths
from zenith_torch.process.context import Context, WithContext
from zenith_torch.process.interrupts import Interrupts
from zenith_torch.process.setup import Setup
from zenith_torch.process.stalls import stall_of
from zenith_torch.process.watch import IDLE
from zenith_torch.samples import Parcel
from zenith_torch.worker_states import WorkerStates

if TYPE_CHECKING:
    from zenith_torch.loader import DataLoader


_log = logging.getLogger("zenith_torch")

_LOOK_S = 5.0
"""How often it is looked whether workers and the thread that pins live, where no pipe tells."""


class _MultiProcessingDataLoaderIter(Placed, torchs._MultiProcessingDataLoaderIter):
    """Torch's iterator over worker processes."""

    _worker_result_queue: Any
    _workers: list[Any]
    _kept: tuple[Any, ...] = ()
    """A batch on its way out of ``next()``. One that Ctrl-C stops there is the next one."""
    _shutdown = True
    """There is nothing to shut down before there are workers; torch's constructor says when there are."""
    _drains = False
    """Batches that come are of the last epoch, and are not handed out."""
    _is_begun = False
    """It stands where its epoch is to go on, so an error of ``next()`` leaves it whole."""

    def __init__(self, loader: DataLoader[Any]) -> None:
        self._setups: list[Setup] = []
        self._every = loader.snapshot_every_n_steps
        self._worker_count = loader.num_workers
        self._byte_bound = None if loader.prefetch_bytes is None else ByteBound(loader.prefetch_bytes)
        context = Context(loader.multiprocessing_context, self._first_setup, loader.stall_timeout is not None)
        self._owner = os.getpid()
        self._interrupts = Interrupts()
        deaths.main.watch()
        start = partial(super().__init__, WithContext(loader, context))  # type: ignore[arg-type]
        deaths.here().around(partial(self._interrupts.around, start))
        if not self._pin_memory:
            # With pinned memory torch's own queue is waited for, which knows nothing of ours.
            self._worker_result_queue.interrupts = self._interrupts

    def __next__(self) -> Any:
        if self._worker_result_queue.is_forgotten:
            raise ForkedEngineError(
                f"this iterator belongs to the parent process ({self._owner}), and so do its workers. "
                "Create a new iterator in the child"
            )
        if self._kept:
            self._recount()
        elif self._pin_memory:
            # Torch's queue is waited for, which looks at workers every five seconds; signals tell of them meanwhile.
            return super().__next__()
        else:
            before = self._counts()
            try:
                deaths.here().around(self._keep_next)
            except BaseException:
                if self._kept:
                    self._uncount(before)
                raise
        # No call from here on: Python raises nothing between these.
        (data,) = self._kept
        self._kept = ()
        return data

    def _keep_next(self) -> None:
        self._interrupts.around(self._keep)

    def _keep(self) -> None:
        self._kept = (super().__next__(),)

    def _counts(self) -> tuple[int, Any, Any]:
        place = self._place
        return place.sent, place.pending, None if place.states is None else list(place.states.latest)

    def _put_counts(self, counts: tuple[int, Any, Any]) -> None:
        place = self._place
        place.sent, place.pending, latest = counts
        if place.states is not None:
            place.states.latest = latest
        place.template = None

    def _uncount(self, before: tuple[int, Any, Any]) -> None:
        """The batch that is kept has not been handed out: a state that is taken now has it still to come."""
        self._after = self._counts()
        self._put_counts(before)
        if self._place.workers is not None and self._last_worker is not None:
            self._place.workers[self._last_worker] -= 1

    def _recount(self) -> None:
        self._put_counts(self._after)
        if self._place.workers is not None and self._last_worker is not None:
            self._place.workers[self._last_worker] += 1

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
            # What it holds goes first: the destructors of its parts would swallow what is to come afterwards.
            self.__dict__.clear()
            interrupts.release_in_destructor()

    def _shutdown_workers(self) -> None:
        if self._shutdown or self._owner != os.getpid():
            return
        if not hasattr(self, "_workers_status"):
            # A worker could not be started; those before it are there.
            self._workers_status = [True] * len(self._workers)
        deaths.here().around(self._end_workers)

    def _end_workers(self) -> None:
        try:
            super()._shutdown_workers()
        finally:
            for worker in self._workers:
                if self._shutdown and worker.is_alive():
                    # It does not listen to what torch ends workers with.
                    worker.kill()
                    worker.join()
            for channel in self._worker_result_queue.channels:
                channel.loan = None

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
            # All workers are there. What remains may take as long as the sampler likes.
            self._interrupts.release()
            super()._reset(loader, first_iter)
            return
        self._kept = ()
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
        try:
            super()._reset(loader, first_iter)
        except KeyboardInterrupt:
            # Workers would answer later what they were asked now: the next epoch has others.
            loader._iterator = None
            self._shutdown_workers()
            raise
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

    def _takesize_of(self) -> int:
        if self._is_iterable:
            return 0
        if self._in_order:
            return size_of(self._drawn.pop(self._rcvd_idx - 1, ()))
        return sum(size_of(self._drawn.pop(task)) for task in self._drawn.keys() - self._task_info)

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
