"""DL-39 and DL-40: batches that are late, and Ctrl-C."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time

import pytest
import torch
from contract_support import Call, error_of, in_a_fork

Loader = type[torch.utils.data.DataLoader]


def interrupt(_: int) -> None:
    raise KeyboardInterrupt


def be_slow(_: int) -> None:
    time.sleep(2)


@pytest.mark.parametrize("timeout", [1, 0.2])
def test_dl_39_a_late_batch_is_an_error_but_not_lost(loader_class: Loader, timeout: float) -> None:
    gate = multiprocessing.get_context("fork").Event()

    def wait(index: int) -> int:
        if index == 1:
            gate.wait(20)
        return index

    iterator = iter(loader_class(Call(wait, 5), num_workers=1, timeout=timeout))
    assert next(iterator).item() == 0
    started = time.monotonic()
    for attempt in range(1 if timeout == 1 else 3):
        error = error_of(next, iterator)
        assert type(error) is RuntimeError
        assert str(error) == f"DataLoader timed out after {timeout} seconds"
        assert (attempt + 1) * timeout <= time.monotonic() - started < (attempt + 1) * timeout + 2
    gate.set()
    assert [batch.item() for batch in iterator] == [1, 2, 3, 4]


def test_dl_40_workers_leave_quietly_on_ctrl_c(loader_class: Loader, capfd: pytest.CaptureFixture[str]) -> None:
    iterator = iter(loader_class(Call(interrupt, 4), num_workers=1))
    worker = iterator._workers[0]
    worker.join(10)
    assert worker.exitcode == 0
    assert capfd.readouterr().err == ""


def test_dl_40_the_main_process_raises_it(loader_class: Loader) -> None:
    def press() -> str:
        # Pytest's own limits stay with the parent.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        iterator = iter(loader_class(Call(be_slow, 4), num_workers=1))
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        started = time.monotonic()
        try:
            next(iterator)
        except KeyboardInterrupt:
            return f"interrupted {time.monotonic() - started < 1.5}"
        return "not interrupted"

    assert in_a_fork(press) == "interrupted True"
