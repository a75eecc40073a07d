"""Helpers that several files of tests of the transport share."""

from __future__ import annotations

import os
import signal
import time
import traceback
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.data import Dataset


def identity(value: Any) -> Any:
    """As ``collate_fn``: the batch is the list of samples."""
    return value


class Call(Dataset):
    """Sample ``i`` is what a function gives for ``i``, in the process that loads it."""

    def __init__(self, function: Callable[[int], Any], size: int) -> None:
        self.function, self.size = function, size

    def __getitem__(self, index: int) -> Any:
        return self.function(index)

    def __len__(self) -> int:
        return self.size


def in_a_child(function: Callable[[], None]) -> int:
    """Forks, and runs a function there; its exit status is 0 if that raises nothing."""
    child = os.fork()
    if child == 0:
        status = 1
        # The threads that torch computes with do not exist here, and would be waited for.
        torch.set_num_threads(1)
        try:
            function()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return child


def status_of(child: int, seconds: float = 20) -> int:
    end = time.monotonic() + seconds
    while (ended := os.waitpid(child, os.WNOHANG))[0] == 0:
        if time.monotonic() > end:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.001)
    return os.waitstatus_to_exitcode(ended[1])
