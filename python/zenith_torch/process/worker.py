"""What runs in a worker process: torch's loop, between our queues."""

from __future__ import annotations

import os
import pickle
import queue
import select
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from torch._utils import ExceptionWrapper
from torch.utils.data import default_collate, get_worker_info
from zenith import _engine

from zenith_torch.process import deaths
from zenith_torch.process.channel import LENGTH, Channel
from zenith_torch.process.collate import Collate
from zenith_torch.process.ends import End
from zenith_torch.process.equipment import Equipment
from zenith_torch.process.frozen import Frozen
from zenith_torch.process.message import Encoder, arena_of
from zenith_torch.process.results import Results
from zenith_torch.process.setup import Setup
from zenith_torch.process.watch import Notes

_READ_BYTES = 1 << 16


@dataclass
class Queues:
    """A worker's ends of its channel, and where among the arguments of torch's loop the queues belong."""

    tasks_place: int
    results_place: int
    task_reader: End
    result_writer: End
    arena: End
    watch: End | None


def work(
    loop: Callable[..., None],
    own: tuple[Any, ...],
    common: Frozen,
    queues: Queues,
    inherited: tuple[Results, Channel] | None,
    setup: Setup,
) -> None:
    """Runs torch's worker loop with ``own`` and ``common`` arguments merged."""
    if inherited is not None:
        results, channel = inherited
        # Those of workers that are older, which the main process still holds for them.
        for other in results.channels:
            if other is not channel:
                other.close()
    arguments = [mine if shared is None else shared for mine, shared in zip(own, common.values, strict=True)]
    arena = arena_of(_engine.ArenaWriter, queues.arena.fd)
    queues.arena.close()
    equipment = Equipment(setup, None if queues.watch is None else Notes(queues.watch))
    arguments[queues.tasks_place] = Tasks(queues.task_reader, equipment)
    arguments[queues.results_place] = Outbox(queues.result_writer, Encoder(arena))
    collate = Collate(arena)
    arguments = [collate if argument is default_collate else argument for argument in arguments]
    equipment.equip_fetchers(collate)
    _give_way()
    # The iterator that is being made in the main process is not this one's.
    deaths.main.depth = 0
    loop(*arguments)


def _give_way() -> None:
    """Lets the consumer finish what it is at when it wakes this worker by sending a task: on a machine whose cores are all
    taken, the worker would else run first, and a ``next()`` last as long as a batch takes to be made."""
    with suppress(OSError):
        if os.sched_getscheduler(0) == os.SCHED_OTHER:
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


class Tasks:
    """The queue of index batches, as torch's loop reads it."""

    def __init__(self, reader: End, equipment: Equipment) -> None:
        self._reader = reader
        self._equipment = equipment
        self._poll = select.poll()
        self._poll.register(reader.fd, select.POLLIN)
        self._content = bytearray()

    def get(self, timeout: float) -> Any:
        """The next task. Raises ``queue.Empty`` when the time is over.

        The end of the pipe means that the main process wants nothing more, or is dead: then it ends torch's loop by the one
        exception at which that ends without a word.
        """
        while True:
            content = self._content
            end = LENGTH.unpack_from(content)[0] + LENGTH.size if len(content) >= LENGTH.size else len(content) + 1
            if len(content) >= end:
                task = content[LENGTH.size : end]
                del content[:end]
                return self._equipment.taken(pickle.loads(task))
            self._equipment.wait()
            if not self._poll.poll(1000 * timeout):
                raise queue.Empty
            more = os.read(self._reader.fd, max(_READ_BYTES, end - len(content)))
            if not more:
                raise KeyboardInterrupt
            content += more


class Outbox:
    """The queue of results, as torch's loop fills it."""

    def __init__(self, writer: End, encoder: Encoder) -> None:
        self._writer = writer
        self._encoder = encoder

    def put(self, item: tuple[Any, Any]) -> None:
        """Sends a result; one that cannot be pickled is sent as the error that this is."""
        number, data = item
        try:
            message = self._encoder.encode(number, data)
        except Exception:
            info = get_worker_info()
            where = "in DataLoader worker process" + ("" if info is None else f" {info.id}")
            message = self._encoder.encode(number, ExceptionWrapper(where=where))  # type: ignore[no-untyped-call]
        content = memoryview(message)
        try:
            while content:
                content = content[os.write(self._writer.fd, content) :]
        except BrokenPipeError:
            # Nobody waits for results any more.
            return

    def cancel_join_thread(self) -> None:
        """There is no thread."""

    def close(self) -> None:
        self._writer.close()
