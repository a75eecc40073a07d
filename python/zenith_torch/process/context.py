"""A multiprocessing context whose queues are ours: what torch's iterator is made with."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch.multiprocessing
from zenith import _engine

from zenith_torch.process.channel import Channel
from zenith_torch.process.flag import Flag
from zenith_torch.process.frozen import Frozen
from zenith_torch.process.results import Results
from zenith_torch.process.setup import Setup
from zenith_torch.process.worker import Queues, work

_SMALL = (int, type(None))


class Context:
    """Gives torch's iterator, in the order in which it asks: the queue of results, a flag, and per worker a queue of tasks
    and a process. One per iterator."""

    def __init__(self, context: Any, setup: Callable[[int], Setup], is_watched: bool) -> None:
        self._setup = setup
        self._is_watched = is_watched
        self._context = torch.multiprocessing if context is None else context
        self._is_forking = self._context.get_start_method() == "fork"
        self._results: Results | None = None
        self._done = Flag()
        self._common: Frozen | None = None

    def Queue(self) -> Any:  # noqa: N802  (multiprocessing's names)
        if self._results is None:
            self._results = Results()
            return self._results
        channel = Channel(self._done.is_set, self._results.watch_tasks, self._is_watched)
        self._results.channels.append(channel)
        return channel

    def Event(self) -> Any:  # noqa: N802
        return self._done

    def Process(self, target: Any, args: tuple[Any, ...]) -> Any:  # noqa: N802
        results = self._results
        assert results is not None
        channel = results.channels[-1]
        own = tuple(arg if isinstance(arg, _SMALL) else None for arg in args)
        shared = tuple(None if isinstance(arg, (*_SMALL, Channel, Results)) else arg for arg in args)
        common = self._common
        if common is None or any(old is not new for old, new in zip(common.values, shared, strict=True)):
            common = self._common = Frozen(*shared)
        places = {id(arg): place for place, arg in enumerate(args)}
        queues = Queues(
            places[id(channel)],
            places[id(results)],
            channel.task_reader,
            channel.result_writer,
            channel.arena,
            None if channel.watch is None else channel.watch.end,
        )
        # A forked worker inherits what belongs to the main process, and lets go of it.
        inherited = (results, channel) if self._is_forking else None
        channel.process = self._context.Process(
            target=work, args=(target, own, common, queues, inherited, self._setup(len(results.channels) - 1))
        )
        if self._is_forking:
            channel.process.start = functools.partial(_start_lending, channel)
        return channel.process


def _start_lending(channel: Channel) -> None:
    """Forks the worker without a copy of the batches that are held here: it is known when it has ended."""
    del channel.process.start
    channel.loan = _engine.lend(channel.process.start)


class WithContext:
    """A loader as torch's iterator sees it, but for its context."""

    def __init__(self, loader: Any, context: Context) -> None:
        self._loader = loader
        self.multiprocessing_context = context

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)
