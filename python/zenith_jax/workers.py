"""Worker processes for Python datasets. Spawned or from a fork server: JAX has threads, which do not survive a fork."""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import suppress
from typing import Any

from zenith_jax import samples

_AHEAD = 2
"""Batches that may be under way or waiting, per worker."""

_LOOK_S = 0.05
"""How often a waiting consumer looks for Ctrl-C."""

Batch = list[tuple[list[Any], Any]]
"""For each shard the leaves of its rows, and their structure."""

_dataset: Any = None
"""Of a worker process."""


def here(dataset: Any, batches: Iterable[Sequence[Sequence[int]]], wide: bool) -> Iterator[Batch]:
    """Loads the batches, each given as the indices of each shard, in the calling thread."""
    for shards in batches:
        yield [samples.collate(samples.load(dataset, indices), indices, wide) for indices in shards]


def elsewhere(
    dataset: Any, batches: Iterable[Sequence[Sequence[int]]], wide: bool, workers: int, method: str, ahead: int | None
) -> Iterator[Batch]:
    """As `here`, in so many processes, ahead of the consumer; in the same order."""
    context = multiprocessing.get_context(method)
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(dataset,))
    under_way: deque[Future[Batch]] = deque()
    rest = iter(batches)
    try:
        while True:
            while len(under_way) < workers * (ahead or _AHEAD) and (shards := next(rest, None)) is not None:
                under_way.append(pool.submit(_load, shards, wide))
            if not under_way:
                return
            while not under_way[0].done():
                _wait(under_way[0])
            yield under_way.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _wait(future: Future[Batch]) -> None:
    with suppress(TimeoutError):
        future.exception(timeout=_LOOK_S)


def _begin(dataset: Any) -> None:
    global _dataset
    _dataset = dataset
    # Ctrl-C in a terminal reaches all processes; the consumer's ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _load(shards: Sequence[Sequence[int]], wide: bool) -> Batch:
    return next(here(_dataset, [shards], wide))
