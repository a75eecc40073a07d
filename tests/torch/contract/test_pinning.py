"""DL-58 and DL-59 (and DL-39 with it): pinning. Most of it is seen without an accelerator, by pretending that there is one."""

from __future__ import annotations

import re
import threading
import warnings
from typing import Any

import pytest
import torch
from contract_samples import is_marked, pin
from contract_support import Call, Numbers, check_often, error_of, values

Loader = type[torch.utils.data.DataLoader]

NO_ACCELERATOR = (
    "'pin_memory' argument is set as true but no accelerator is found, then device pinned memory won't be used."
)
NOT_ON_MPS = "'pin_memory' argument is set as true but not supported on MPS now, device pinned memory won't be used."
OLD_DEVICE = (
    "pin_memory_device is deprecated, the current accelerator will be used as the device,"
    "ignore pin_memory_device='cuda'."
)
DEVICE = 3  # As the fixture `pinned` has it.

both = pytest.mark.parametrize("workers", [0, 1])


class Refusing:
    def pin_memory(self) -> None:
        raise ValueError("cannot be pinned")


class Deadly:
    def pin_memory(self) -> None:
        raise SystemExit


def fail(_: int) -> None:
    raise ValueError("of the dataset")


@pytest.fixture
def nothing_to_pin_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)


@both
@pytest.mark.usefixtures("nothing_to_pin_for")
def test_dl_58_without_an_accelerator_every_iterator_warns(loader_class: Loader, workers: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loader = loader_class(Numbers(3), num_workers=workers, pin_memory=True)
    for _ in range(2):
        with pytest.warns(UserWarning, match=f"^{re.escape(NO_ACCELERATOR)}$") as seen:
            iterator = iter(loader)
        assert len(seen) == 1
        assert not hasattr(iterator, "_pin_memory_thread")
        batches = list(iterator)
        assert [batch.tolist() for batch in batches] == [[0], [1], [2]]


@both
@pytest.mark.usefixtures("nothing_to_pin_for")
def test_dl_58_a_device_is_deprecated(loader_class: Loader, workers: int) -> None:
    with pytest.warns(UserWarning, match="pin_memory") as seen:
        iter(loader_class(Numbers(3), num_workers=workers, pin_memory=True, pin_memory_device="cuda"))
    assert [str(warning.message) for warning in seen] == [OLD_DEVICE, NO_ACCELERATOR]


@both
def test_dl_58_a_device_alone_does_nothing(loader_class: Loader, workers: int, pinned: list[Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert values(loader_class(Numbers(2), num_workers=workers, pin_memory_device="cuda")) == [[0], [1]]
    assert pinned == []


@both
def test_dl_58_on_mps_nothing_is_pinned(
    loader_class: Loader, workers: int, pinned: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("mps"))
    with pytest.warns(UserWarning, match=f"^{re.escape(NOT_ON_MPS)}$") as seen:
        iterator = iter(loader_class(Numbers(2), num_workers=workers, pin_memory=True))
    assert len(seen) == 1
    assert values(iterator) == [[0], [1]]
    assert pinned == []


def test_dl_59_without_workers_the_caller_pins(loader_class: Loader, pinned: list[Any]) -> None:
    iterator = iter(loader_class(Numbers(2), pin_memory=True))
    assert pinned == []
    assert is_marked(next(iterator))
    assert [call["thread"] for call in pinned] == [threading.current_thread()]
    assert not hasattr(iterator, "_pin_memory_thread")


def test_dl_59_with_workers_one_thread_pins(loader_class: Loader, pinned: list[Any]) -> None:
    iterator = iter(loader_class(Numbers(6), num_workers=2, pin_memory=True))
    thread = iterator._pin_memory_thread
    assert thread.daemon
    assert thread.is_alive()
    batches = list(iterator)
    assert [batch.tolist() for batch in batches] == [[i] for i in range(6)]
    assert all(is_marked(batch) for batch in batches)
    assert pinned == [{"device": DEVICE}, *[{"thread": thread, "name": "pt_data_pin", "threads": 1}] * 6]
    assert not thread.is_alive()


def test_dl_59_the_thread_ends_with_the_iterator(loader_class: Loader, pinned: list[Any]) -> None:
    iterator = iter(loader_class(Numbers(60), num_workers=1, pin_memory=True))
    next(iterator)
    thread, worker = iterator._pin_memory_thread, iterator._workers[0]
    del iterator
    thread.join(2)
    worker.join(2)
    assert not thread.is_alive()
    assert worker.exitcode == 0


def test_dl_59_an_error_while_pinning(loader_class: Loader, pinned: list[Any]) -> None:
    error = error_of(pin, loader_class, 1, Refusing())
    assert type(error) is ValueError
    assert str(error).startswith(
        f"Caught ValueError in pin memory thread for device {DEVICE}.\nOriginal Traceback (most"
    )
    error = error_of(pin, loader_class, 0, Refusing())
    assert str(error) == "cannot be pinned"


def test_dl_59_an_error_of_a_worker_passes_through(loader_class: Loader, pinned: list[Any]) -> None:
    error = error_of(next, iter(loader_class(Call(fail, 1), num_workers=1, pin_memory=True)))
    assert type(error) is ValueError
    assert str(error).startswith("Caught ValueError in DataLoader worker process 0.\nOriginal Traceback (most")
    assert pinned == [{"device": DEVICE}]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_dl_59_a_thread_that_dies(loader_class: Loader, pinned: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    check_often(monkeypatch)
    error = error_of(pin, loader_class, 1, Deadly())
    assert type(error) is RuntimeError
    assert str(error) == "Pin memory thread exited unexpectedly"


def test_dl_39_a_late_batch_with_pinning(loader_class: Loader, pinned: list[Any]) -> None:
    gate = torch.multiprocessing.get_context("fork").Event()
    loader = loader_class(Call(lambda index: gate.wait(20) and index, 2), num_workers=1, pin_memory=True, timeout=0.3)
    iterator = iter(loader)
    error = error_of(next, iterator)
    assert type(error) is RuntimeError
    assert str(error) == "DataLoader timed out after 0.3 seconds"
    gate.set()
    assert values(iterator) == [[0], [1]]
