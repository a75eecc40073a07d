"""Every draw from a generator of the process is noticed, and nothing else is."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from zenith_torch import drawn, randomness

DRAWS: list[tuple[str, Callable[[], Any]]] = [
    ("torch", lambda: torch.rand(())),
    ("torch", lambda: torch.randn(3)),
    ("torch", lambda: torch.normal(0.0, torch.ones(1, dtype=torch.float64))),
    ("python", random.random),
    ("python", lambda: random.gauss(0, 1)),
    ("python", lambda: random.shuffle([1, 2, 3])),
    ("numpy", np.random.random),
    ("numpy", lambda: np.random.standard_normal()),
    ("numpy", lambda: np.random.randint(5)),
    ("numpy", lambda: np.random.seed(3)),
]


@pytest.mark.parametrize("reads_words", [True, False])
def test_draws_are_noticed(reads_words: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not reads_words:
        for name in ("_torch_memory", "_python_memory"):
            monkeypatch.setattr(drawn, name, lambda: None)
        monkeypatch.setattr(drawn, "_numpy_memory", lambda *_: None)
    watch = drawn.Drawn()
    for memory in (watch._torch_memory, watch._python_memory, watch._numpy_memory[1]):
        assert (memory is not None) == reads_words, "the words lie where they are looked for"
    assert watch.look() == []
    choose = random.Random(5)
    for _ in range(6000):
        before = randomness.take_globals()
        for _, draw in choose.sample(DRAWS, choose.randrange(3)):
            draw()
        now = randomness.take_globals()
        assert watch.look() == [name for name in randomness.GLOBALS if before[name] != now[name]]


@pytest.mark.parametrize("seed", [0, 2**40 + 1, -3])
def test_the_words_are_found_whatever_the_seed(seed: int) -> None:
    before = torch.get_rng_state()
    try:
        torch.manual_seed(seed)
        torch.normal(0.0, torch.ones(1))
        assert drawn.Drawn()._torch_memory is not None
    finally:
        torch.set_rng_state(before)


def test_states_that_are_put_back_are_noticed() -> None:
    watch = drawn.Drawn()
    states = randomness.take_globals()
    random.random(), np.random.random(), torch.rand(())
    assert watch.look() == list(randomness.GLOBALS)
    randomness.put_globals(states)
    assert watch.look() == list(randomness.GLOBALS)
    assert randomness.take_globals() == states
