"""Ctrl-C inside of an iterator: raised where it waits, put off where it would lose something."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from process_support import Call
from zenith_torch import DataLoader
from zenith_torch.process.interrupts import Interrupts


def strike(seconds: float) -> None:
    threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT)).start()


class Striking:
    """A sampler that is hit while it draws an index."""

    is_armed = True

    def __iter__(self) -> Iterator[int]:
        for index in range(20):
            if index == 10 and self.is_armed:
                os.kill(os.getpid(), signal.SIGINT)
            yield index

    def __len__(self) -> int:
        return 20


def test_while_a_batch_is_on_its_way_it_is_put_off() -> None:
    """The batch is the next one then; torch's loader ends the epoch without a word, because its sampler was stopped."""
    sampler = Striking()
    loader: Any = DataLoader(range(20), sampler=sampler, num_workers=2, prefetch_factor=2)
    iterator = iter(loader)
    seen: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        seen.extend(batch.item() for batch in iterator)
    assert len(seen) == 6
    sampler.is_armed = False
    resumed: Any = DataLoader(range(20), sampler=sampler, num_workers=2)
    resumed.load_state_dict(loader.state_dict())
    # What had not been handed out is not counted as seen.
    assert [batch.item() for batch in resumed] == list(range(6, 20))
    seen += [batch.item() for batch in iterator]
    assert seen == list(range(20))


def test_while_a_worker_is_waited_for_it_is_raised_at_once() -> None:
    def slow(index: int) -> int:
        time.sleep(1 if index == 1 else 0)
        return index

    iterator = iter(DataLoader(Call(slow, 3), num_workers=1))
    assert next(iterator).item() == 0
    strike(0.2)
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        next(iterator)
    assert time.monotonic() - started < 0.7
    assert [batch.item() for batch in iterator] == [1, 2]


def test_between_epochs_of_persistent_workers() -> None:
    """Workers are asked to begin anew, and have not answered yet."""

    def slow(index: int) -> int:
        time.sleep(1 if index == 3 else 0)
        return index

    loader = DataLoader(Call(slow, 12), num_workers=2, persistent_workers=True, prefetch_factor=3)
    next(iter(loader))
    strike(0.1)
    with pytest.raises(KeyboardInterrupt):
        iter(loader)
    for _ in range(2):
        assert [batch.item() for batch in loader] == list(range(12))


def test_in_a_destructor_it_comes_afterwards() -> None:
    is_under_way = multiprocessing.get_context("fork").Event()

    def slow(index: int) -> int:
        if index:
            is_under_way.set()
            time.sleep(2)
        return index

    iterator = iter(DataLoader(Call(slow, 3), num_workers=1, multiprocessing_context="fork"))
    next(iterator)
    assert is_under_way.wait(60)  # A worker that has not begun ends at once, and nobody waits for it.
    held = [iterator]
    del iterator
    strike(0.3)
    with pytest.raises(KeyboardInterrupt):
        held.clear()


def test_a_second_one_does_not_wait() -> None:
    interrupts = Interrupts()
    assert interrupts.hold()
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
        strike(0.2)
        with pytest.raises(KeyboardInterrupt):
            time.sleep(5)
    finally:
        interrupts.release()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_handler_of_the_program_s_own_is_left_alone() -> None:
    called = []
    before = signal.signal(signal.SIGINT, lambda *_: called.append(1))
    try:
        iterator = iter(DataLoader(range(3), num_workers=1))
        os.kill(os.getpid(), signal.SIGINT)
        assert [batch.item() for batch in iterator] == [0, 1, 2]
    finally:
        signal.signal(signal.SIGINT, before)
    assert called == [1]
