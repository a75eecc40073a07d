"""Tasks and results of any size, and readers of any speed: nobody waits for ever."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
import torch
import torch.utils.data
from process_support import Call, identity
from torch.utils.data import Dataset
from zenith_torch import DataLoader


class Lengths(Dataset):
    def __getitems__(self, indices: list[int]) -> Any:
        return [len(indices), indices[0], indices[-1]]

    def __len__(self) -> int:
        return 3_000_000


@pytest.mark.parametrize("prefetch", [1, 4])
@pytest.mark.parametrize("workers", [1, 3])
def test_tasks_larger_than_a_pipe(workers: int, prefetch: int) -> None:
    loader = DataLoader(
        Lengths(), batch_size=500_000, num_workers=workers, prefetch_factor=prefetch, collate_fn=identity
    )
    assert list(loader) == [[500_000, start, start + 499_999] for start in range(0, 3_000_000, 500_000)]


def test_a_task_that_grows_after_small_ones() -> None:
    """The pipe was watched for results only by then."""
    batches = [[0]] * 20 + [list(range(2_000_000))] + [[1]] * 3
    loader = DataLoader(Lengths(), batch_sampler=batches, num_workers=1, prefetch_factor=1, collate_fn=identity)
    started = time.monotonic()
    assert [batch[0] for batch in loader] == [len(batch) for batch in batches]
    assert time.monotonic() - started < 4


def many_texts(index: int) -> list[str]:
    return [str(index) * 20] * 20_000


def shared(index: int) -> Any:
    base = torch.full((10,), index)
    return [base, base.view(2, 5), b"%d" % index * 20_000_000]


def test_results_larger_than_a_pipe() -> None:
    """The second has to go as torch sends it, so in the pipe itself; reading it takes no more than its length."""
    for function, last in ((many_texts, "7" * 20), (shared, b"7" * 20_000_000)):
        loader = DataLoader(Call(function, 8), batch_size=None, num_workers=2, collate_fn=identity)
        started = time.monotonic()
        assert [batch[-1] for batch in loader][-1] == last
        assert time.monotonic() - started < 10


def test_results_larger_than_a_pipe_without_an_arena(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zenith_torch.process.channel.arena_of", lambda *_: None)
    monkeypatch.setattr("zenith_torch.process.worker.arena_of", lambda *_: None)
    loader = DataLoader(Call(lambda i: np.full(100_000, i), 8), batch_size=2, num_workers=2)
    assert [batch[:, 0].tolist() for batch in loader] == [[0, 1], [2, 3], [4, 5], [6, 7]]


def test_a_slow_consumer_and_much_ahead() -> None:
    loader = DataLoader(Call(many_texts, 100), batch_size=None, num_workers=2, prefetch_factor=50, collate_fn=identity)
    for number, batch in enumerate(loader):
        if number % 40 == 0:
            time.sleep(0.2)
        assert batch[0] == str(number) * 20


def test_breaking_off_does_not_wait_for_a_full_pipe() -> None:
    """Workers that wait for room in a pipe hear of the end, though another loader's workers were forked meanwhile."""
    texts = DataLoader(Call(lambda _: ["x" * 15_000], 1000), batch_size=None, num_workers=2, prefetch_factor=100)
    first = iter(texts)
    next(first)
    second = iter(texts)
    next(second)
    time.sleep(0.3)
    started = time.monotonic()
    del first
    assert time.monotonic() - started < 2
    del second
