"""DL-33 and DL-34: how worker processes are started, and what they inherit. A spawned one takes seconds to import torch."""

from __future__ import annotations

import multiprocessing
import os
import re
from typing import Any

import pytest
import torch
from contract_support import Call, Numbers, Surroundings, error_of, is_in_shared_memory, values
from torch.utils.data import Dataset

Loader = type[torch.utils.data.DataLoader]


class Convolution(Dataset):
    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.nn.functional.conv2d(torch.ones(1, 3, 32, 32), torch.ones(4, 3, 3, 3))[0, 0, 0, 0]

    def __len__(self) -> int:
        return 2


class Unpicklable(Numbers):
    def __reduce__(self) -> Any:
        raise TypeError("this dataset does not pickle")


def see_affinity(_: int) -> list[int]:
    return sorted(os.sched_getaffinity(0))


def pin_to_one_cpu(_: int) -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


PICKLE_ERROR = (
    "Got pickle error when attempting to start a worker Process. "
    "This might be because the worker Process arguments are not picklable. "
    "Python 3.14+ changed the multiprocessing start method in non-Mac POSIX platforms "
    "to 'forkserver', which requires the worker Process arguments to be picklable. "
    "You can also try multiprocessing.set_start_method('fork')."
)


def test_dl_33_the_affinity_that_a_worker_chooses_sticks(loader_class: Loader) -> None:
    before = os.sched_getaffinity(0)
    loader = loader_class(Call(see_affinity, 4), batch_size=None, num_workers=2, worker_init_fn=pin_to_one_cpu)
    assert list(loader) == [[min(before)]] * 4
    assert os.sched_getaffinity(0) == before


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_dl_33_what_does_not_pickle(loader_class: Loader, method: str) -> None:
    loader = loader_class(Unpicklable(3), num_workers=1, multiprocessing_context=method)
    with pytest.warns(UserWarning, match=f"^{re.escape(PICKLE_ERROR)}$"):
        error = error_of(iter, loader)
    assert type(error) is TypeError
    assert str(error) == "this dataset does not pickle"
    loader = loader_class(Numbers(3), num_workers=1, multiprocessing_context=method, collate_fn=lambda batch: batch)
    with pytest.warns(UserWarning, match=f"^{re.escape(PICKLE_ERROR)}$"):
        error = error_of(iter, loader)
    assert "pickle" in str(error)


def test_dl_33_a_fork_pickles_nothing(loader_class: Loader) -> None:
    loader = loader_class(Unpicklable(3), num_workers=1, multiprocessing_context="fork", collate_fn=lambda batch: batch)
    assert values(loader) == [[0], [1], [2]]


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_dl_34_every_start_method_works(loader_class: Loader, method: str) -> None:
    """What the statements on workers say holds in each of them."""
    dataset = Surroundings()
    loader = loader_class(
        dataset,
        batch_size=2,
        num_workers=1,
        multiprocessing_context=multiprocessing.get_context(method) if method == "fork" else method,
        worker_init_fn=dataset.start,
    )
    iterators = {}
    for note in ("first", "second") if method == "spawn" else ("first",):
        # Each iterator has a copy of its own time (DL-43).
        dataset.note = note
        iterators[note] = iter(loader)
    for note, iterator in iterators.items():
        seed = iterator._base_seed
        batch = next(iterator)
        assert batch["worker"].tolist() == [0, 0]
        assert batch["seed"].tolist() == [seed, seed]
        assert batch["pid"].tolist() == [iterator._workers[0].pid] * 2
        assert batch["started"].tolist() == [True, True]
        assert batch["threads"].tolist() == [1, 1]
        assert batch["name"] == ["pt_data_worker"] * 2
        assert batch["note"] == [note] * 2
        generator = torch.Generator().manual_seed(seed)
        assert torch.equal(batch["random"], torch.stack([torch.rand(3, generator=generator) for _ in range(2)]))
        assert is_in_shared_memory(batch["random"])
        with pytest.raises(StopIteration):
            next(iterator)
    assert not hasattr(dataset, "started")


def test_dl_34_a_convolution_before_and_after_a_fork(loader_class: Loader) -> None:
    assert Convolution()[0].item() == 27
    for _ in range(2):
        assert values(loader_class(Convolution(), num_workers=2, multiprocessing_context="fork")) == [[27], [27]]
    assert Convolution()[0].item() == 27
