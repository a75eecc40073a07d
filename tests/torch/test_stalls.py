"""``stall_timeout``: a batch that is late names the worker, the sample, and where it is."""

from __future__ import annotations

import itertools
import logging
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import zenith
from torch.utils.data import Dataset, IterableDataset
from torch.utils.data._utils import signal_handling
from zenith_torch import DataLoader

SIZE = 12


class Sticking(Dataset):
    """Sticks at one sample until it is let go."""

    def __init__(self, at: int = 7, how: str = "sleep") -> None:
        self.at, self.how = at, how
        self.released = torch.zeros(()).share_memory_()

    def __len__(self) -> int:
        return SIZE

    def __getitem__(self, index: int) -> int:
        if index == self.at:
            self.wait_for_a_very_long_time()
        return index

    def wait_for_a_very_long_time(self) -> None:
        while not self.released:
            if self.how == "stop":
                os.kill(os.getpid(), signal.SIGSTOP)
            elif self.how == "gil":
                # One call of C code that never lets go of the GIL.
                sum(range(30_000_000))
            else:
                time.sleep(0.01)


class StickingAtOnce(Sticking):
    def __getitems__(self, indices: list[int]) -> list[int]:
        return [self[index] for index in indices]


class StickingStream(IterableDataset):
    def __iter__(self) -> Iterator[int]:
        yield 0
        yield 1
        time.sleep(20)


def stall_of(iterator: Any) -> zenith.StallError:
    """The error of a stall; of one at a sample or batch, not at the start, which may take its time."""
    while True:
        with pytest.raises(zenith.StallError) as caught:
            next(iterator)
        if caught.value.stack is None or "in _worker_loop" in caught.value.stack:
            return caught.value


def leave(iterator: Any) -> None:
    """Ends workers that would be waited for, since they stick; torch is not to raise that they were killed."""
    signal_handling._remove_worker_pids(id(iterator))
    iterator._worker_pids_set = False
    for worker in iterator._workers:
        worker.kill()
        worker.join()


@pytest.mark.parametrize("how", ["sleep", "gil"])
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_it_names_worker_sample_and_place_and_nothing_is_lost(how: str, method: str) -> None:
    data = Sticking(how=how)
    loader = DataLoader(data, batch_size=3, num_workers=2, stall_timeout=60, multiprocessing_context=method)
    iterator = iter(loader)
    assert [next(iterator).tolist() for _ in range(2)] == [[0, 1, 2], [3, 4, 5]]
    iterator._stall_timeout = 0.3
    for _ in range(2):
        started = time.monotonic()
        stall = stall_of(iterator)
        assert 0.3 <= time.monotonic() - started < 3
        worker = iterator._workers[0]
        assert (stall.worker, stall.pid, stall.batch, stall.index) == (0, worker.pid, [6, 7, 8], 7)
        assert "in wait_for_a_very_long_time" in stall.stack
        assert "in __getitem__" in stall.stack
        for part in ("no batch for 0.3 s", f"worker 0 (pid {worker.pid}) is at index 7", stall.stack):
            assert part in str(stall)
    data.released.fill_(1)
    iterator._stall_timeout = 60
    assert [batch.tolist() for batch in iterator] == [[6, 7, 8], [9, 10, 11]]


def test_a_stopped_worker_is_told_as_such() -> None:
    data = Sticking(how="stop")
    iterator = iter(DataLoader(data, batch_size=3, num_workers=2, stall_timeout=0.5))
    next(iterator), next(iterator)
    stall = stall_of(iterator)
    assert f"is stopped (SIGSTOP, or a debugger); `kill -CONT {stall.pid}`" in str(stall)
    assert (stall.index, stall.stack) == (7, None)
    data.released.fill_(1)
    os.kill(stall.pid, signal.SIGCONT)
    assert [batch.tolist() for batch in iterator] == [[6, 7, 8], [9, 10, 11]]


def test_other_ways_to_be_late() -> None:
    iterator = iter(DataLoader(StickingAtOnce(), batch_size=6, num_workers=1, stall_timeout=60, in_order=False))
    next(iterator)
    iterator._stall_timeout = 0.4
    stall = stall_of(iterator)
    assert "reads the indices [6, 7, 8, 9, 10, 11] by one call of __getitems__" in str(stall)
    assert stall.index is None
    leave(iterator)

    def initialise(_: int) -> None:
        time.sleep(20)

    iterator = iter(DataLoader(Sticking(), num_workers=1, worker_init_fn=initialise, stall_timeout=0.4))
    stall = stall_of(iterator)
    assert "worker_init_fn" in str(stall)
    assert "in initialise" in stall.stack
    leave(iterator)

    def collate(samples: list[int]) -> list[int]:
        time.sleep(20)
        return samples

    iterator = iter(DataLoader(Sticking(), batch_size=2, collate_fn=collate, num_workers=1, stall_timeout=0.4))
    assert "has read the samples [0, 1], and collates" in str(stall_of(iterator))
    leave(iterator)

    iterator = iter(DataLoader(StickingStream(), batch_size=None, num_workers=1, stall_timeout=0.4))
    iterator._stall_timeout = 60
    assert [next(iterator), next(iterator)] == [0, 1]
    iterator._stall_timeout = 0.4
    assert "is at sample 0 of its batch" in str(stall_of(iterator))
    leave(iterator)


def test_the_clock_does_not_begin_anew_when_other_batches_come() -> None:
    """Batches of other workers come all the time, but not the one that is next."""

    class Slow(Sticking):
        def __getitem__(self, index: int) -> int:
            time.sleep(0.05)
            return super().__getitem__(index)

    iterator = iter(DataLoader(Slow(at=0), num_workers=3, prefetch_factor=4, stall_timeout=0.3))
    started = time.monotonic()
    assert stall_of(iterator).index == 0
    assert time.monotonic() - started < 2
    leave(iterator)


def test_timeout_and_deaths_keep_their_errors() -> None:
    iterator = iter(DataLoader(Sticking(at=0), num_workers=1, timeout=0.2, stall_timeout=30))
    with pytest.raises(RuntimeError, match=r"DataLoader timed out after 0.2 seconds"):
        next(iterator)
    leave(iterator)
    iterator = iter(DataLoader(Sticking(at=0), num_workers=1, stall_timeout=30))
    os.kill(iterator._workers[0].pid, signal.SIGKILL)
    with pytest.raises(RuntimeError, match="DataLoader worker"):
        next(iterator)


def test_the_end_of_the_last_epoch_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    """An error would lose the iterator; the log says why it takes long."""

    class Late(Sticking):
        def __getitem__(self, index: int) -> int:
            time.sleep(1 if index == 1 else 0)
            return index

    loader = DataLoader(Late(), num_workers=1, persistent_workers=True, stall_timeout=0.3)
    next(iter(loader))
    with caplog.at_level(logging.WARNING, "zenith_torch"):
        iterator = iter(loader)
    assert "no batch for 0.3 s: worker 0" in caplog.text
    iterator._stall_timeout = 30
    assert [int(batch) for batch in iterator] == list(range(SIZE))


def test_without_workers_the_log_says_it(caplog: pytest.LogCaptureFixture) -> None:
    class Late(Sticking):
        def __getitem__(self, index: int) -> int:
            time.sleep(0.6 if index == 4 else 0)
            return index

    loader = DataLoader(Late(), batch_size=3, stall_timeout=0.2)
    with caplog.at_level(logging.WARNING, "zenith_torch"):
        assert [batch.tolist() for batch in loader] == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11]]
    assert len(caplog.records) == 1
    assert "the calling thread is at index 4" in caplog.text
    assert "in __getitem__" in caplog.text


def test_threads_and_descriptors_go_with_the_iterator() -> None:
    def held() -> tuple[int, int]:
        return len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))

    def use(workers: int) -> None:
        iterator = iter(DataLoader(Sticking(at=-1), num_workers=workers, stall_timeout=0.2))
        assert len(list(itertools.islice(iterator, 3))) == 3

    use(1)
    use(0)
    time.sleep(0.2)
    before = held()
    for _ in range(3):
        use(1)
        use(0)
    time.sleep(0.2)
    assert held() == before


NATIVE = """
    import os, sys, time
    import pyarrow as pa, pyarrow.parquet as pq
    import zenith
    from zenith_torch import DataLoader
    path, workers = sys.argv[1], int(sys.argv[2])
    pq.write_table(pa.table({"id": range(100)}), path)
    # A view has handles of its own, so that the file has to be opened again: a FIFO that nobody writes to.
    dataset = zenith.Parquet(path).take(100)
    os.rename(path, path + ".kept")
    os.mkfifo(path)
    iterator = iter(DataLoader(dataset, batch_size=10, num_workers=workers, stall_timeout=0.3))
    for _ in range(2):
        started = time.monotonic()
        try:
            next(iterator)
            sys.exit("nothing hung")
        except zenith.StallError as error:
            assert 0.3 <= time.monotonic() - started < 3
            assert "at position 0 of the epoch" in str(error), str(error)
    print("survived", flush=True)
    os._exit(0)
"""


@pytest.mark.parametrize("workers", [0, 2])
def test_zenith_datasets_are_late_too(tmp_path: Path, workers: int) -> None:
    command = [sys.executable, "-c", textwrap.dedent(NATIVE), str(tmp_path / "a.parquet"), str(workers)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "survived", done.stderr


@pytest.mark.parametrize("seconds", [0, -1])
def test_nonsense_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="stall_timeout"):
        DataLoader(Sticking(), stall_timeout=seconds)
