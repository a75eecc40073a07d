"""DL-38: workers that die."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import torch
from contract_support import Call, Numbers, check_often, error_of, in_a_fork, only_zenith
from torch.utils.data import IterableDataset

Loader = type[torch.utils.data.DataLoader]


class Random(IterableDataset):
    def __iter__(self) -> Iterator[torch.Tensor]:
        return (torch.full((2, 2), float(i)) for i in range(200))


def kill_oneself(_: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def exit_with_three(_: int) -> None:
    os._exit(3)


def exit_by_exception(_: int) -> None:
    raise SystemExit(4)


def after_a_moment(function: Any, index: int) -> None:
    """Dies when the main process waits for the batch, and not while it starts the worker: that is another place for the error."""
    time.sleep(0.5)
    function(index)


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (kill_oneself, "is killed by signal: Killed. "),
        (
            exit_with_three,
            "exited unexpectedly with exit code 3. Details are lost due to multiprocessing. Rerunning with num_workers=0 "
            "may give better error trace.",
        ),
        (
            exit_by_exception,
            "exited unexpectedly with exit code 4. Details are lost due to multiprocessing. Rerunning with num_workers=0 "
            "may give better error trace.",
        ),
    ],
)
def test_dl_38_a_dead_worker_is_an_error_at_once(loader_class: Loader, function: Any, text: str) -> None:
    """By the signal handler, so well before the five seconds after which torch looks by itself."""
    iterator = iter(loader_class(Call(partial(after_a_moment, function), 4), num_workers=1))
    pid = iterator._workers[0].pid
    started = time.monotonic()
    error = error_of(next, iterator)
    assert time.monotonic() - started < 3
    assert type(error) is RuntimeError
    inner = f"DataLoader worker (pid {pid}) {text}"
    if str(error) != inner:
        # The signal came while the queue was waited for.
        assert str(error) == f"DataLoader worker (pid(s) {pid}) exited unexpectedly"
        assert type(error.__cause__) is RuntimeError
        assert str(error.__cause__) == inner


def test_dl_38_a_worker_killed_from_outside_between_batches(loader_class: Loader) -> None:
    iterator = iter(loader_class(Numbers(100), num_workers=2))
    next(iterator)

    def kill_and_go_on() -> None:
        os.kill(iterator._workers[1].pid, signal.SIGKILL)
        for _ in iterator:
            pass

    error = error_of(kill_and_go_on)
    if loader_class is torch.utils.data.DataLoader and type(error) is ConnectionResetError:
        # torch's queue was at the worker's memory when it died; what its handler says of the death comes at the next chance.
        with contextlib.suppress(RuntimeError):
            iterator._shutdown_workers()
        return
    assert type(error) is RuntimeError
    assert str(error).startswith("DataLoader worker (pid")


def died_in_a_thread(loader_class: Loader) -> tuple[list[Exception], float, Any]:
    """The error that ``next()`` raises outside the main thread, and after how many seconds."""
    loader = loader_class(Call(kill_oneself, 4), num_workers=1)
    errors: list[Exception] = []
    pids = []
    may_begin, done = threading.Event(), threading.Event()

    def consume() -> None:
        try:
            may_begin.wait()
            iterator = iter(loader)
            pids.append(iterator._workers[0].pid)
            errors.append(error_of(next, iterator))
        finally:
            done.set()

    thread = threading.Thread(target=consume)
    thread.start()
    started = time.monotonic()
    may_begin.set()
    # The handler of an earlier loader speaks up here, in the main thread; `join` would then take the thread for ended.
    while not done.is_set():
        with contextlib.suppress(RuntimeError):
            time.sleep(0.01)
    return errors, time.monotonic() - started, pids[0]


def test_dl_38_outside_the_main_thread_it_is_an_error_soon(
    loader_class: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_often(monkeypatch)
    (error,), seconds, pid = died_in_a_thread(loader_class)
    assert type(error) is RuntimeError
    assert str(error) == f"DataLoader worker (pid(s) {pid}) exited unexpectedly"
    assert seconds < 7


@only_zenith
def test_dl_38_outside_the_main_thread_it_is_an_error_at_once(
    loader_class: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_often(monkeypatch, 1.5)
    assert died_in_a_thread(loader_class)[1] < 1


def test_dl_38_without_file_descriptors_left(loader_class: Loader) -> None:
    def run_out() -> str:
        resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
        kept = []
        try:
            for batch in loader_class(Random(), num_workers=1):
                kept.append(batch)
        except RuntimeError as error:
            return str(error)
        return f"all {len(kept)} batches, the last of {kept[-1].unique().tolist()}"

    text = in_a_fork(run_out)
    expected = (
        "Too many open files. Communication with the workers is no longer possible. Please increase the limit using "
        "`ulimit -n` in the shell or change the sharing strategy by calling "
        "`torch.multiprocessing.set_sharing_strategy('file_system')` at the beginning of your code"
    )
    # A transport that needs no descriptor for each tensor has nothing to say here.
    done = "all 200 batches, the last of [199.0]"
    assert text in ([expected] if loader_class is torch.utils.data.DataLoader else [expected, done])
