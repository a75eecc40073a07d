"""Descriptors, threads, children and arenas are as many after fifty iterators as before, however those ended."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from process_support import Call
from soak import excess, holdings
from zenith_torch import DataLoader

ITERATORS = 50


def number(index: int) -> int:
    return index


def fail(index: int) -> int:
    if index == 7:
        raise ValueError("sample 7")
    return index


def die(index: int) -> int:
    if index == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return index


def inner(index: int) -> int:
    return sum(int(batch) for batch in DataLoader(range(index), num_workers=0))


def whole(turn: int) -> None:
    assert len(list(DataLoader(Call(number, 20), num_workers=2))) == 20


def broken_off(turn: int) -> None:
    for count, _ in enumerate(DataLoader(Call(number, 20), num_workers=2)):
        if count == turn % 20:
            break


def failing(turn: int) -> None:
    with contextlib.suppress(ValueError):
        list(DataLoader(Call(fail, 20), num_workers=2))


def dying(turn: int) -> None:
    with contextlib.suppress(RuntimeError):
        list(DataLoader(Call(die, 20), num_workers=2))


def persistent(turn: int) -> None:
    loader = DataLoader(Call(number, 8), num_workers=1, persistent_workers=True)
    for epoch in range(3):
        for count, _ in enumerate(loader):
            if count == epoch + turn % 4:
                break


def nested(turn: int) -> None:
    for _ in DataLoader(Call(inner, 4), num_workers=1):
        for _ in DataLoader(Call(number, 4), num_workers=1):
            break


def in_a_thread(turn: int) -> None:
    thread = threading.Thread(target=whole, args=(turn,))
    thread.start()
    thread.join()


@pytest.mark.parametrize("use", [whole, broken_off, failing, dying, persistent, nested, in_a_thread])
def test_nothing_is_left(use: Callable[[int], Any]) -> None:
    torch.ones(1)
    with contextlib.suppress(RuntimeError):
        use(0)
    before = holdings()
    for turn in range(ITERATORS if use is not nested else ITERATORS // 4):
        # The handler of a child's death may speak up between two lines, also after the fact.
        with contextlib.suppress(RuntimeError):
            use(turn)
    left = excess(before)
    # Libraries start threads of their own now and then; one per iterator would be ours.
    assert left.pop("threads", 0) < 5
    assert not left
