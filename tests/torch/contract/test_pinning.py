"""DL-58 to DL-61: pinning. Most of it is seen without an accelerator, by pretending that there is one."""

from __future__ import annotations

import collections
import re
import threading
import warnings
from typing import Any, NamedTuple

import pytest
import torch
from contract_support import Call, Numbers, check_often, error_of, identity, values
from torch.nn.utils.rnn import pack_sequence
from torch.utils.data import Dataset

Loader = type[torch.utils.data.DataLoader]

NO_ACCELERATOR = (
    "'pin_memory' argument is set as true but no accelerator is found, then device pinned memory won't be used."
)
NOT_ON_MPS = "'pin_memory' argument is set as true but not supported on MPS now, device pinned memory won't be used."
OLD_DEVICE = (
    "pin_memory_device is deprecated, the current accelerator will be used as the device,"
    "ignore pin_memory_device='cuda'."
)
DEVICE = 3

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
both = pytest.mark.parametrize("workers", [0, 1])


class Pair(NamedTuple):
    x: Any
    y: Any


class Triple(tuple):
    pass


class Row(list):
    extra = "none"


class Fields(dict):
    extra = "none"


class Batch:
    def __init__(self, value: torch.Tensor) -> None:
        self.value = value

    def pin_memory(self) -> str:
        return f"pinned {self.value.tolist()}"


class Refusing:
    def pin_memory(self) -> None:
        raise ValueError("cannot be pinned")


class Deadly:
    def pin_memory(self) -> None:
        raise SystemExit


class Samples(Dataset):
    def __init__(self, *samples: Any) -> None:
        self.samples = samples

    def __getitem__(self, index: int) -> Any:
        return self.samples[index]

    def __len__(self) -> int:
        return len(self.samples)


def fail(_: int) -> None:
    raise ValueError("of the dataset")


@pytest.fixture
def nothing_to_pin_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)


@pytest.fixture
def pinned(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Pretends that there is an accelerator; tells where each tensor was pinned, and gives it the mark ``is_marked``."""
    calls: list[dict[str, Any]] = []
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "current_device_index", lambda: DEVICE)
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


def is_marked(value: Any) -> bool:
    return getattr(value, "is_marked", False)


def pin(loader_class: Loader, workers: int, sample: Any) -> Any:
    loader = loader_class(Samples(sample), batch_size=None, collate_fn=identity, num_workers=workers, pin_memory=True)
    return next(iter(loader))


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


@both
def test_dl_60_tensors_and_what_pins_itself(loader_class: Loader, workers: int, pinned: list[Any]) -> None:
    assert is_marked(pin(loader_class, workers, torch.ones(2)))
    assert pin(loader_class, workers, Batch(torch.ones(2))) == "pinned [1.0, 1.0]"
    packed = pin(loader_class, workers, pack_sequence([torch.ones(3), torch.ones(2)]))
    assert type(packed) is torch.nn.utils.rnn.PackedSequence
    assert is_marked(packed.data)


@both
@pytest.mark.parametrize("sample", ["text", b"bytes", 3, 2.5, None, {1, 2}], ids=repr)
def test_dl_60_what_is_left_alone(loader_class: Loader, workers: int, sample: Any, pinned: list[Any]) -> None:
    got = pin(loader_class, workers, sample)
    assert got == sample
    assert type(got) is type(sample)


@both
def test_dl_60_collections(loader_class: Loader, workers: int, pinned: list[Any]) -> None:
    ones = torch.ones(2)
    fields, row = Fields(a=ones, b="x"), Row([ones, "x"])
    fields.extra = row.extra = "kept"
    got = pin(loader_class, workers, fields)
    assert (type(got), got.extra, is_marked(got["a"]), got["b"]) == (Fields, "kept", True, "x")
    got = pin(loader_class, workers, row)
    assert (type(got), got.extra, is_marked(got[0]), got[1]) == (Row, "kept", True, "x")
    got = pin(loader_class, workers, Pair(ones, "x"))
    assert (type(got), is_marked(got.x), got.y) == (Pair, True, "x")
    # Unlike in collation, a tuple stays one.
    for kind in (tuple, Triple, list, collections.deque):
        got = pin(loader_class, workers, kind([ones, "x"]))
        assert (type(got), is_marked(got[0]), got[1]) == (kind, True, "x")
    got = pin(loader_class, workers, {"deep": [(ones, {"er": ones})]})
    assert is_marked(got["deep"][0][0])
    assert is_marked(got["deep"][0][1]["er"])
    assert pin(loader_class, workers, range(2)) == [0, 1]


@both
def test_dl_60_the_datasets_own_collections_are_copied(loader_class: Loader, workers: int, pinned: list[Any]) -> None:
    sample = {"a": torch.ones(2), "b": [torch.ones(2)]}
    got = pin(loader_class, workers, sample)
    assert got is not sample
    assert got["b"] is not sample["b"]
    assert not is_marked(sample["a"])
    assert not is_marked(sample["b"][0])


@needs_gpu
@both
def test_dl_61_batches_are_pinned(loader_class: Loader, workers: int) -> None:
    for batch in loader_class(Samples(torch.ones(3), torch.ones(3)), num_workers=workers, pin_memory=True):
        assert batch.is_pinned()


@needs_gpu
def test_dl_61_tensors_that_are_pinned_or_on_the_device(loader_class: Loader) -> None:
    ready = torch.ones(3).pin_memory()
    assert pin(loader_class, 0, ready) is ready
    with pytest.raises(RuntimeError, match="only dense CPU tensors can be pinned"):
        pin(loader_class, 0, torch.ones(3, device="cuda"))
