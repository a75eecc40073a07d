"""torchdata: programs written for its ``StatefulDataLoader`` run with ours, and see what they saw."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
import zenith
import zenith_torch
from ecosystem_samples import Numbers, ids
from torch.utils.data import IterableDataset
from torchdata.stateful_dataloader import StatefulDataLoader

pytestmark = pytest.mark.filterwarnings("ignore:.set_vital. is deprecated:UserWarning")

LOADERS = {"torchdata": StatefulDataLoader, "zenith": zenith_torch.DataLoader}
SIZE, BATCH = 26, 4


class Counter(IterableDataset[int]):
    """Keeps its place itself; each worker counts its own part."""

    def __init__(self) -> None:
        self.next = 0

    def __iter__(self) -> Any:
        info = torch.utils.data.get_worker_info()
        first, step = (0, 1) if info is None else (info.id, info.num_workers)
        while self.next * step + first < SIZE:
            self.next += 1
            yield (self.next - 1) * step + first
        self.next = 0

    def state_dict(self) -> dict[str, int]:
        return {"next": self.next}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.next = state["next"]


def stopped_and_resumed(make: Any, steps: int) -> tuple[list[Any], list[Any]]:
    """The rest of an epoch, and what a new loader makes of the state, which goes through JSON."""
    loader = make()
    iterator = iter(loader)
    for _ in range(steps):
        next(iterator)
    state = loader.state_dict()
    rest = list(iterator)
    resumed = make()
    resumed.load_state_dict(json.loads(json.dumps(state)) if type(loader) is zenith_torch.DataLoader else state)
    return rest, list(resumed)


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("steps", [1, 5])
def test_a_map_style_dataset(workers: int, shuffle: bool, steps: int) -> None:
    found = {}
    for name, loader_class in LOADERS.items():

        def make(loader_class: Any = loader_class) -> Any:
            generator = torch.Generator().manual_seed(3)
            return loader_class(
                Numbers(SIZE),
                BATCH,
                shuffle=shuffle,
                num_workers=workers,
                generator=generator,
                snapshot_every_n_steps=2,
            )

        torch.manual_seed(3)
        rest, resumed = stopped_and_resumed(make, steps)
        assert ids(resumed) == ids(rest)
        found[name] = ids(rest)
    assert len(found["torchdata"]) == len(found["zenith"]) == 7 - steps
    # Its sampler draws before the loader does, so it shuffles otherwise than torch's; ours as torch's.
    assert shuffle or found["zenith"] == found["torchdata"]


def test_a_dataset_that_keeps_its_own_state(workers: int) -> None:
    found = {}
    for name, loader_class in LOADERS.items():

        def make(loader_class: Any = loader_class) -> Any:
            return loader_class(Counter(), BATCH, num_workers=workers)

        rest, resumed = stopped_and_resumed(make, 3)
        found[name] = [batch.tolist() for batch in rest]
        assert [batch.tolist() for batch in resumed] == found[name]
    assert found["zenith"] == found["torchdata"]


@pytest.mark.parametrize("name", LOADERS)
def test_the_end_of_an_epoch(workers: int, name: str) -> None:
    """Taken after the last batch a state resumes to nothing; taken after the loop, to the next epoch."""

    def make() -> Any:
        return LOADERS[name](Numbers(SIZE), BATCH, num_workers=workers)

    rest, resumed = stopped_and_resumed(make, 7)
    assert ids(rest) == ids(resumed) == []
    loader, after = make(), make()
    list(loader)
    after.load_state_dict(loader.state_dict())
    assert ids(after) == ids(make())


def test_only_ours_resumes_with_another_number_of_workers() -> None:
    torch.manual_seed(1)
    loader = zenith_torch.DataLoader(Numbers(SIZE), BATCH, shuffle=True, num_workers=2)
    iterator = iter(loader)
    next(iterator)
    state = loader.state_dict()
    resumed = zenith_torch.DataLoader(Numbers(SIZE), BATCH, shuffle=True)
    resumed.load_state_dict(state)
    assert ids(resumed) == ids(iterator)
    theirs = StatefulDataLoader(Numbers(SIZE), BATCH, num_workers=2)
    next(iter(theirs))
    other = StatefulDataLoader(Numbers(SIZE), BATCH)
    other.load_state_dict(theirs.state_dict())
    with pytest.raises(AssertionError):
        iter(other)


def test_states_of_torchdata_are_refused(workers: int) -> None:
    theirs = StatefulDataLoader(Numbers(SIZE), BATCH, num_workers=workers)
    next(iter(theirs))
    with pytest.raises(zenith.StateError, match="damaged: version None"):
        zenith_torch.DataLoader(Numbers(SIZE), BATCH, num_workers=workers).load_state_dict(theirs.state_dict())


def test_a_zenith_dataset_in_the_same_program(rows_file: str, workers: int) -> None:
    def make() -> Any:
        return zenith_torch.DataLoader(
            zenith.Parquet(rows_file, columns=["id"]),
            batch_size=BATCH,
            shuffle=True,
            num_workers=workers,
            seed=4,
            snapshot_every_n_steps=5,
        )

    assert make().explain().startswith("native")
    rest, resumed = stopped_and_resumed(make, 7)
    assert ids(resumed) == ids(rest)
    assert len(rest) == 26 - 7
