"""Kills and interrupts at random moments leave nothing behind; the programs are in `soak.py`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from process_support import Call
from zenith_torch import DataLoader

COUNT = int(os.environ.get("ZENITH_SOAK", "4"))
"""How many random moments are tried; `make soak` tries more."""


@pytest.mark.parametrize("what", ["kills", "interrupts"])
def test_at_random_moments(what: str) -> None:
    command = [sys.executable, str(Path(__file__).with_name("soak.py")), what, str(COUNT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100 + 10 * COUNT)
    assert done.returncode == 0, done.stderr
    print(json.loads(done.stdout))


MAIN = """
    import os, signal, sys
    import torch
    from zenith_torch import DataLoader

    loaders = [DataLoader(range(10**6), num_workers=2, prefetch_factor=n) for n in (1, 2, 100)]
    iterators = [iter(loader) for loader in loaders]
    for iterator in iterators:
        next(iterator)
    print(*[worker.pid for iterator in iterators for worker in iterator._workers], flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_workers_do_not_outlive_a_main_process_that_is_killed() -> None:
    code = textwrap.dedent(MAIN)
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == -signal.SIGKILL
    pids = [int(pid) for pid in done.stdout.split()]
    assert len(pids) == 6
    end = time.monotonic() + 2
    while left := [pid for pid in pids if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < end, left
        time.sleep(0.01)


def test_a_worker_that_dies_and_leaves_a_child_of_its_own() -> None:
    """The child has the worker's ends of the pipes, so they do not end; the death is noticed all the same."""
    read, write = os.pipe()

    def fork_and_die(index: int) -> int:
        if index == 5:
            if os.fork() == 0:
                os.read(read, 1)
                os._exit(0)
            os.kill(os.getpid(), signal.SIGKILL)
        return index

    iterator = iter(DataLoader(Call(fork_and_die, 10), num_workers=1))
    started = time.monotonic()
    with pytest.raises(RuntimeError, match=r"DataLoader worker \(pid"):
        list(iterator)
    del iterator
    assert time.monotonic() - started < 3
    os.write(write, b"!")
    os.close(read)
    os.close(write)
