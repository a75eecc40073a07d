"""DL-30 to DL-32: what a worker knows, how it is seeded, and what kind of process it is."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import random
import signal
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
import zenith_torch
from contract_support import Call, Numbers, identity, is_gone, wait_until
from torch.utils.data import Dataset, get_worker_info
from torch.utils.data._utils import worker as torch_worker

Loader = type[torch.utils.data.DataLoader]


class Look(Dataset):
    """What the worker sees of itself."""

    note = "unset"

    def __getitem__(self, index: int) -> dict[str, Any]:
        info = get_worker_info()
        assert info is not None
        seen = {name: getattr(info, name) for name in ("id", "num_workers", "seed", "rng", "worker_method")}
        seen["is_dataset"] = info.dataset is self
        seen["is_global"] = info is torch_worker._worker_info
        seen["type"] = type(info) is torch_worker.WorkerInfo
        seen["repr"] = repr(info)
        seen["pid"] = os.getpid()
        seen["note"] = self.note
        try:
            info.id = 9  # type: ignore[misc]
        except dataclasses.FrozenInstanceError:
            seen["frozen"] = True
        return seen

    def __len__(self) -> int:
        return 4


def note_seed(worker: int) -> None:
    info = get_worker_info()
    assert info is not None
    info.dataset.note = f"{worker} {torch.initial_seed()} {info.id} {info.seed}"


def numbers(_: int) -> list[float]:
    return [random.random(), torch.rand((), dtype=torch.float64).item(), float(np.random.random())]


def draw_all(_: int) -> None:
    numbers(0)


def process(_: int) -> dict[str, Any]:
    current = multiprocessing.current_process()
    with open("/proc/self/comm") as file:
        name = file.read().strip()
    child = multiprocessing.get_context("fork").Process(target=print)
    try:
        child.start()
        error = ""
    except AssertionError as caught:
        error = str(caught)
    return {
        "threads": torch.get_num_threads(),
        "name": name,
        "daemon": current.daemon,
        "error": error,
        "parent": os.getppid(),
        "child": multiprocessing.parent_process() is not None,
    }


def where(_: Any) -> int:
    return os.getpid()


def kill_oneself(number: int) -> None:
    os.kill(os.getpid(), number)


def test_dl_30_the_main_process_is_no_worker(loader_class: Loader) -> None:
    assert get_worker_info() is None
    for workers in (0, 1):
        for _ in loader_class(Numbers(2), num_workers=workers):
            assert get_worker_info() is None
        assert get_worker_info() is None


def test_dl_30_what_a_worker_knows(loader_class: Loader) -> None:
    dataset = Look()
    iterator = iter(
        loader_class(dataset, batch_size=None, collate_fn=identity, num_workers=2, worker_init_fn=note_seed)
    )
    for i, seen in enumerate(iterator):
        worker, seed = i % 2, iterator._base_seed + i % 2
        assert (seen["id"], seen["num_workers"], seen["seed"]) == (worker, 2, seed)
        assert (seen["rng"], seen["worker_method"]) == (None, "multiprocessing")
        assert seen["is_dataset"]
        assert seen["is_global"]
        assert seen["type"]
        assert seen["frozen"]
        assert seen["note"] == f"{worker} {seed} {worker} {seed}"
        assert seen["pid"] == iterator._workers[worker].pid != os.getpid()
        for part in (f"id={worker}", "num_workers=2", f"seed={seed}", "dataset="):
            assert part in seen["repr"]
    assert dataset.note == "unset"


def test_dl_30_samples_are_loaded_and_collated_in_the_worker(loader_class: Loader) -> None:
    iterator = iter(loader_class(Call(where, 4), batch_size=2, num_workers=2, collate_fn=lambda b: (*b, os.getpid())))
    assert list(iterator) == [(worker.pid,) * 3 for worker in iterator._workers]
    assert list(loader_class(Call(where, 2), batch_size=2, collate_fn=where)) == [os.getpid()]


def test_dl_31_the_three_generators_are_seeded_for_each_worker(loader_class: Loader) -> None:
    iterator = iter(loader_class(Call(numbers, 6), batch_size=None, collate_fn=identity, num_workers=3))
    base = iterator._base_seed
    for i, got in enumerate(iterator):
        worker = i % 3
        if i < 3:
            expected = expect(base, worker)
            assert got == [next(stream) for stream in expected]


def expect(base: int, worker: int) -> list[Any]:
    """The streams of ``random``, torch and numpy in a worker."""
    python = random.Random(base + worker)
    generator = torch.Generator().manual_seed(base + worker)
    # What torch computes by itself is what numpy's own seed sequence makes of these words.
    words = np.random.SeedSequence((worker, base & 0xFFFFFFFF, base >> 32, 0)).generate_state(4)
    numpy = np.random.RandomState(words)
    return [
        iter(python.random, None),
        iter(lambda: torch.rand((), dtype=torch.float64, generator=generator).item(), None),
        iter(lambda: float(numpy.random()), None),
    ]


def test_dl_31_seeding_comes_before_the_init_function(loader_class: Loader) -> None:
    loader = loader_class(
        Call(numbers, 4), batch_size=None, collate_fn=identity, num_workers=2, worker_init_fn=draw_all
    )
    iterator = iter(loader)
    streams = [expect(iterator._base_seed, worker) for worker in range(2)]
    for worker in range(2):
        for stream in streams[worker]:
            next(stream)
    assert list(iterator) == [[next(stream) for stream in streams[i % 2]] for i in range(4)]


def test_dl_31_each_epoch_has_its_own_seed(loader_class: Loader) -> None:
    loader = loader_class(Call(numbers, 2), batch_size=None, collate_fn=identity, num_workers=1)
    torch.manual_seed(2)
    epochs = [list(loader), list(loader)]
    assert epochs[0] != epochs[1]
    torch.manual_seed(2)
    assert [list(loader), list(loader)] == epochs


def test_dl_31_loading_in_workers_leaves_the_callers_generators_alone(loader_class: Loader) -> None:
    states = random.getstate(), np.random.get_state()[1].tolist()
    list(loader_class(Call(numbers, 2), batch_size=None, num_workers=1))
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states


def test_dl_31_torchs_state_words_are_numpys() -> None:
    for base, worker in [(0, 0), (1, 2), (2884386318088479, 3), (2**63 - 1, 7)]:
        expected = np.random.SeedSequence((worker, base & 0xFFFFFFFF, base >> 32, 0)).generate_state(4)
        assert torch_worker._generate_state(base, worker) == expected.tolist()


def test_dl_32_a_worker_is_a_daemon_with_one_thread_and_a_name(loader_class: Loader) -> None:
    loader = loader_class(Call(process, 2), batch_size=None, collate_fn=identity, num_workers=2)
    assert (
        list(loader)
        == [
            {
                "threads": 1,
                "name": "pt_data_worker",
                "daemon": True,
                "error": "daemonic processes are not allowed to have children",
                "parent": os.getpid(),
                "child": True,
            }
        ]
        * 2
    )


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (signal.SIGBUS, "bus error encountered in worker. This might be caused by insufficient shared memory (shm)."),
        (signal.SIGSEGV, "segmentation fault encountered in worker."),
        (signal.SIGFPE, "floating-point exception encountered in worker."),
    ],
)
def test_dl_32_a_fatal_signal_says_so(
    loader_class: Loader, number: signal.Signals, text: str, capfd: pytest.CaptureFixture[str]
) -> None:
    iterator = iter(loader_class(Numbers(2), num_workers=1, worker_init_fn=lambda _: kill_oneself(number)))
    with pytest.raises(RuntimeError, match=r"DataLoader worker \(pid"):
        next(iterator)
    assert f"ERROR: Unexpected {text}" in capfd.readouterr().err


@pytest.fixture(scope="module")
def orphans() -> Iterator[dict[Loader, list[int]]]:
    """Workers of either loader whose parents were killed, at one time for all, because they look every five seconds."""
    left = {}
    for loader_class in (torch.utils.data.DataLoader, zenith_torch.DataLoader):
        read, write = os.pipe()
        parent = os.fork()
        if parent == 0:
            try:
                iterator = iter(loader_class(Numbers(100), num_workers=2))
                # Both have begun: a worker whose parent dies before it has looked who that is never ends, in torch.
                next(iterator), next(iterator)
                os.write(write, " ".join(str(worker.pid) for worker in iterator._workers).encode())
                signal.pause()
            finally:
                os._exit(1)
        os.close(write)
        left[loader_class] = [int(pid) for pid in os.read(read, 100).split()]
        os.kill(parent, signal.SIGKILL)
        os.waitpid(parent, 0)
        os.close(read)
    yield left
    for pid in [pid for pids in left.values() for pid in pids if not is_gone(pid)]:
        os.kill(pid, signal.SIGKILL)


def test_dl_32_workers_end_when_their_parent_is_killed(loader_class: Loader, orphans: dict[Loader, list[int]]) -> None:
    assert len(orphans[loader_class]) == 2
    assert wait_until(lambda: all(is_gone(pid) for pid in orphans[loader_class]), 8)
