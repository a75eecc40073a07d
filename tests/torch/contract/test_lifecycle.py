"""DL-41 to DL-44: iterators that live side by side, end early, or keep their workers for the next epoch."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import threading
import time
from typing import Any

import pytest
import torch
from contract_support import Call, Numbers, Stream, error_of, only_zenith, values, wait_until, worker_id
from torch.utils.data import Dataset

Loader = type[torch.utils.data.DataLoader]


class Counting(Dataset):
    """Counts its own calls, in whichever process they happen."""

    def __init__(self) -> None:
        self.calls = 0
        self.note = "first"

    def __getitem__(self, index: int) -> tuple[int, str]:
        self.calls += 1
        return self.calls, self.note

    def __len__(self) -> int:
        return 2


def fail(index: int) -> None:
    raise ValueError(f"sample {index}")


def slow_in_worker_one(index: int) -> int:
    if worker_id() == 1:
        time.sleep(0.02)
    return index


@pytest.mark.parametrize("workers", [0, 2])
def test_dl_41_iterators_are_independent(loader_class: Loader, workers: int) -> None:
    loader = loader_class(Numbers(4), num_workers=workers)
    pairs = [(a.item(), b.item()) for a, b in zip(loader, loader, strict=True)]
    assert pairs == [(i, i) for i in range(4)]
    loader = loader_class(Numbers(3), num_workers=workers)
    assert [(a.item(), b.item()) for a in loader for b in loader] == [(a, b) for a in range(3) for b in range(3)]
    first, second = iter(loader), iter(loader)
    assert first is not second
    if workers:
        pids = [[worker.pid for worker in iterator._workers] for iterator in (first, second)]
        assert len({*pids[0], *pids[1]}) == 2 * workers


def test_dl_41_a_persistent_iterator_is_one_and_reset(loader_class: Loader) -> None:
    loader = loader_class(Numbers(3), num_workers=2, persistent_workers=True)
    iterator = iter(loader)
    pids = [worker.pid for worker in iterator._workers]
    assert next(iterator).item() == 0
    assert iter(loader) is iterator
    assert [worker.pid for worker in iterator._workers] == pids
    assert values(iterator) == [[0], [1], [2]]
    # The inner loop resets the outer one, which is then at its end.
    assert [(a.item(), b.item()) for a in loader for b in loader] == [(0, 0), (0, 1), (0, 2)]


@pytest.mark.parametrize("dataset", [Numbers(8), Stream(4, 4)], ids=["map", "iterable"])
@pytest.mark.parametrize("ending", ["whole", "break", "error"])
def test_dl_42_workers_leave_when_the_iterator_does(loader_class: Loader, ending: str, dataset: Any) -> None:
    workers: list[Any] = []

    def use() -> None:
        iterator = iter(loader_class(dataset, num_workers=2))
        workers.extend(iterator._workers)
        for _ in iterator:
            if ending == "break":
                break
            if ending == "error":
                raise ValueError("of the loop")

    if ending == "error":
        assert str(error_of(use)) == "of the loop"
    else:
        use()
    for worker in workers:
        worker.join(2)
        assert worker.exitcode == 0


def test_dl_42_a_whole_epoch_ends_the_workers_of_a_live_iterator(loader_class: Loader) -> None:
    iterator = iter(loader_class(Numbers(4), num_workers=2))
    values(iterator)
    assert [worker.exitcode for worker in iterator._workers] == [0, 0]
    with pytest.raises(StopIteration):
        next(iterator)


def test_dl_42_persistent_workers_leave_with_the_loader(loader_class: Loader) -> None:
    loader = loader_class(Numbers(4), num_workers=2, persistent_workers=True)
    values(loader)
    workers = loader._iterator._workers
    assert all(worker.is_alive() for worker in workers)
    del loader
    gc.collect()
    for worker in workers:
        worker.join(2)
        assert worker.exitcode == 0


@only_zenith
def test_dl_42_an_error_of_a_worker_holds_up_nothing(loader_class: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch's errors hold the iterator in a cycle, and one that the garbage collector finds waits five seconds."""
    monkeypatch.setattr(torch.utils.data._utils, "MP_STATUS_CHECK_INTERVAL", 1.0)
    workers: list[Any] = []

    def use() -> None:
        iterator = iter(loader_class(Call(fail), num_workers=1))
        workers.extend(iterator._workers)
        with contextlib.suppress(ValueError):
            next(iterator)

    started = time.monotonic()
    use()
    gc.collect()
    assert time.monotonic() - started < 1
    assert [worker.exitcode for worker in workers] == [0]


def test_dl_42_nothing_is_left_behind(loader_class: Loader) -> None:
    """No process, no thread, and no file descriptor, over many iterators."""

    def counts() -> tuple[int, int, int]:
        gc.collect()
        return len(multiprocessing.active_children()), threading.active_count(), len(open_files())

    def use() -> None:
        iterator = iter(loader_class(Numbers(20), num_workers=1))
        next(iterator)

    def open_files() -> list[str]:
        return os.listdir("/proc/self/fd")

    use()
    before = counts()
    for _ in range(5):
        use()
    assert wait_until(lambda: all(now <= then for now, then in zip(counts(), before, strict=True)), 3), counts()


@pytest.mark.parametrize("persistent", [False, True])
def test_dl_43_whether_workers_see_later_edits(loader_class: Loader, persistent: bool) -> None:
    dataset = Counting()
    loader = loader_class(dataset, batch_size=None, num_workers=1, persistent_workers=persistent)
    assert [tuple(sample) for sample in loader] == [(1, "first"), (2, "first")]
    dataset.note = "second"
    expected = [(3, "first"), (4, "first")] if persistent else [(1, "second"), (2, "second")]
    assert [tuple(sample) for sample in loader] == expected
    assert dataset.calls == 0


@pytest.mark.parametrize("taken", [0, 1, 3])
def test_dl_44_after_an_early_break_no_old_batch_comes(loader_class: Loader, taken: int) -> None:
    generator = torch.Generator().manual_seed(4)
    options: dict[str, Any] = {"shuffle": True, "generator": generator, "num_workers": 2, "persistent_workers": True}
    loader = loader_class(Call(slow_in_worker_one, 10), prefetch_factor=3, **options)
    for _ in range(3):
        iterator = iter(loader)
        for _ in range(taken):
            next(iterator)
    assert sorted(value for batch in values(loader) for value in batch) == list(range(10))
    assert sorted(value for batch in values(loader) for value in batch) == list(range(10))


def test_dl_44_an_iterable_dataset_begins_anew(loader_class: Loader) -> None:
    loader = loader_class(Stream(3, 5), batch_size=None, num_workers=2, persistent_workers=True)
    expected = [0, 100, 1, 101, 2, 102, 103, 104]
    for taken in (1, 7):
        iterator = iter(loader)
        assert [next(iterator) for _ in range(taken)] == expected[:taken]
    assert values(loader) == expected


def test_dl_44_errors_of_the_last_epoch_are_not_told(loader_class: Loader) -> None:
    def fail_in_the_first(index: int) -> int:
        if index == 3 and not first.is_set():
            first.set()
            raise ValueError("old")
        return index

    first = multiprocessing.get_context("fork").Event()
    loader = loader_class(Call(fail_in_the_first, 4), num_workers=1, persistent_workers=True, prefetch_factor=4)
    next(iter(loader))
    assert first.wait(5)
    assert values(loader) == [[0], [1], [2], [3]]
