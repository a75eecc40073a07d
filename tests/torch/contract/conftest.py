"""The contract of a drop-in ``DataLoader``: what torch's does wherever a user can see it, stated by number.

A test is named after the statement that it holds (``test_dl_07_...``) and runs with torch's own loader, which proves the
test, and with ours.
"""

from __future__ import annotations

import faulthandler
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch.utils.data
import zenith_torch
from _pytest.faulthandler import fault_handler_stderr_fd_key

# Datasets are unpickled in spawned workers, which find this folder in the path that they inherit.
sys.path.insert(0, str(Path(__file__).parent))

LOADERS = {"torch": torch.utils.data.DataLoader, "zenith": zenith_torch.DataLoader}

SECONDS_MAX = 40


@pytest.fixture(params=LOADERS)
def loader_class(request: pytest.FixtureRequest) -> type[torch.utils.data.DataLoader]:
    return LOADERS[request.param]


@pytest.fixture(params=[0, 1], ids=["main", "worker"])
def workers(request: pytest.FixtureRequest) -> int:
    """Where a batch is made; a test that names other numbers of workers overrides it."""
    return request.param


@pytest.fixture(autouse=True)
def _time_limit(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test that hangs fails; one that hangs where no signal handler runs ends the run, and says where it stood."""

    def on_alarm(number: int, frame: FrameType | None) -> None:
        pytest.fail(f"the test took more than {SECONDS_MAX} s")

    before = signal.signal(signal.SIGALRM, on_alarm)
    signal.setitimer(signal.ITIMER_REAL, SECONDS_MAX)
    # The standard error of before pytest captured it.
    errors = request.config.stash.get(fault_handler_stderr_fd_key, 2)
    faulthandler.dump_traceback_later(2 * SECONDS_MAX, exit=True, file=errors)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    torch.manual_seed(1234)


@pytest.fixture
def pinned(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Pretends that there is an accelerator; tells where each tensor was pinned, and gives it the mark ``is_marked``."""
    calls: list[dict[str, Any]] = []
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "current_device_index", lambda: 3)
    monkeypatch.setattr(torch.accelerator, "set_device_index", lambda index: calls.append({"device": index}))

    def pin(tensor: torch.Tensor) -> torch.Tensor:
        with open(f"/proc/self/task/{threading.get_native_id()}/comm") as file:
            name = file.read().strip()
        calls.append({"thread": threading.current_thread(), "name": name, "threads": torch.get_num_threads()})
        result = tensor.clone()
        result.is_marked = True
        return result

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin, raising=False)
    return calls


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here not in item.path.parents or not isinstance(item, pytest.Function):
            continue
        if not torch.__version__.startswith("2.13."):
            item.add_marker(pytest.mark.skip(reason="the contract is that of torch 2.13"))
