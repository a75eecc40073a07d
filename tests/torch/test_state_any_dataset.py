"""The state of a loader over any dataset continues exactly where it was taken, and costs the order nothing."""

from __future__ import annotations

import copy
import itertools
import json
import pickle
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.utils.data as data
import zenith
from hypothesis import given, settings
from hypothesis import strategies as st
from zenith_torch import DataLoader
from zenith_torch.place import Origin, Place

SIZE = 23
BATCH = 4
BATCHES = 6
SECONDS_MAX = 60


@pytest.fixture(autouse=True)
def _guard() -> Iterator[None]:
    """A loader that hangs fails its test."""

    def on_alarm(*_: object) -> None:
        raise TimeoutError(f"no end after {SECONDS_MAX} s")

    before = signal.signal(signal.SIGALRM, on_alarm)
    signal.alarm(SECONDS_MAX)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


class Numbers(data.Dataset):
    """Sample *i* is *i*; counts how often each was asked for, in all processes."""

    def __init__(self, size: int = SIZE) -> None:
        self.asked = torch.zeros(size, dtype=torch.int64).share_memory_()

    def __len__(self) -> int:
        return len(self.asked)

    def __getitem__(self, index: int) -> int:
        self.asked[index] += 1
        return int(index)


class Shuffler(data.Sampler):
    """Draws from Python's and numpy's generators when it is iterated, as many bucket samplers do."""

    def __len__(self) -> int:
        return SIZE

    def __iter__(self) -> Iterator[int]:
        order = list(range(SIZE))
        random.shuffle(order)
        return iter([order[i] for i in np.random.permutation(SIZE)])


class Lazy(data.Sampler):
    """Draws from torch's generator of the process when the first index is asked for."""

    def __len__(self) -> int:
        return SIZE

    def __iter__(self) -> Iterator[int]:
        yield from torch.randperm(SIZE).tolist()


class Stateful(data.Sampler):
    """Keeps an epoch and a position itself, as samplers for torchdata do."""

    def __init__(self) -> None:
        self.epoch, self.position = 0, 0

    def __len__(self) -> int:
        return SIZE

    def __iter__(self) -> Iterator[int]:
        order = random.Random(self.epoch).sample(range(SIZE), SIZE)
        for index in order[self.position :]:
            self.position += 1
            yield index
        self.epoch, self.position = self.epoch + 1, 0

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.epoch, self.position = state["epoch"], state["position"]


class LateStateful(Stateful):
    """Tells a loaded state only once it moves, as samplers of torchdata's tests do."""

    resume: tuple[int, int] | None = None

    def __iter__(self) -> Iterator[int]:
        if self.resume is not None:
            (self.epoch, self.position), self.resume = self.resume, None
        yield from super().__iter__()

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.resume = (state["epoch"], state["position"])


class OwnDraws(data.Sampler):
    """Draws every index from a generator whose state is part of its own."""

    def __init__(self) -> None:
        self.generator, self.position = _generator(), 0

    def __len__(self) -> int:
        return SIZE

    def __iter__(self) -> Iterator[int]:
        while self.position < SIZE:
            self.position += 1
            yield int(torch.randint(SIZE, (), generator=self.generator))
        self.position = 0

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position, "generator": self.generator.get_state().tolist()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.position = state["position"]
        self.generator.set_state(torch.tensor(state["generator"], dtype=torch.uint8))


class StatefulIterator:
    def __init__(self) -> None:
        self.next = 0

    def __iter__(self) -> StatefulIterator:
        return self

    def __next__(self) -> list[int]:
        if self.next >= SIZE:
            raise StopIteration
        self.next += 3
        return list(range(self.next - 3, min(self.next, SIZE)))

    def state_dict(self) -> dict[str, int]:
        return {"next": self.next}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.next = state["next"]


class Batches:
    """A batch sampler whose iterator has the state."""

    def __iter__(self) -> StatefulIterator:
        return StatefulIterator()


def _generator() -> torch.Generator:
    # Not the seed of the loader before: the state must bring the right one.
    return torch.Generator().manual_seed(int(torch.randint(1 << 30, ())))


ORDERS: dict[str, Callable[[], dict[str, Any]]] = {
    "sequential": lambda: {"batch_size": BATCH},
    "drop_last": lambda: {"batch_size": BATCH, "drop_last": True, "shuffle": True},
    "shuffle": lambda: {"batch_size": BATCH, "shuffle": True},
    "single": lambda: {"batch_size": None, "shuffle": True},
    "generator": lambda: {"batch_size": BATCH, "shuffle": True, "generator": _generator()},
    "own generator": lambda: {
        "batch_size": BATCH,
        "sampler": data.RandomSampler(range(SIZE), num_samples=2 * SIZE + 3, generator=_generator()),
        "generator": _generator(),
    },
    "replacement": lambda: {
        "batch_size": BATCH,
        "sampler": data.RandomSampler(range(SIZE), replacement=True, num_samples=70),
    },
    "subset": lambda: {"batch_size": BATCH, "sampler": data.SubsetRandomSampler(range(3, 20))},
    "weighted": lambda: {
        "batch_size": BATCH,
        "sampler": data.WeightedRandomSampler([1.0 + i for i in range(SIZE)], 30),
    },
    "distributed": lambda: {"batch_size": BATCH, "sampler": data.DistributedSampler(range(SIZE), 2, 1, seed=4)},
    "list": lambda: {"batch_size": BATCH, "sampler": [5, 3, 8, 1, 22, 9, 4, 17]},
    "batch list": lambda: {"batch_sampler": [[5, 3], [8], [1, 22, 9], [4, 17], [0]]},
    "eager": lambda: {"batch_size": BATCH, "sampler": Shuffler()},
    "eager single": lambda: {"batch_size": None, "sampler": Shuffler()},
    "default generator": lambda: {
        "batch_size": BATCH,
        "sampler": data.RandomSampler(range(SIZE), generator=torch.default_generator),
    },
    "lazy": lambda: {"batch_size": BATCH, "sampler": Lazy()},
    "stateful": lambda: {"batch_size": BATCH, "sampler": Stateful()},
    "late stateful": lambda: {"batch_size": BATCH, "sampler": LateStateful()},
    "own draws": lambda: {"batch_size": BATCH, "sampler": OwnDraws()},
    "stateful single": lambda: {"batch_size": None, "sampler": Stateful()},
    "stateful iterator": lambda: {"batch_sampler": Batches()},
}


def seed_all(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def make(order: str, seed: int, workers: int, loader: Callable[..., Any] = DataLoader, **more: Any) -> Any:
    seed_all(seed)
    made = loader(Numbers(), num_workers=workers, **ORDERS[order](), **more)
    if order == "distributed":
        made.sampler.set_epoch(5)
    return made


def values(batches: Any) -> list[Any]:
    return [batch.tolist() if isinstance(batch, torch.Tensor) else batch for batch in batches]


def through_json(state: dict[str, Any]) -> Any:
    return json.loads(json.dumps(state))


def broken(order: str, seed: int, workers: int, at: int, **more: Any) -> tuple[list[Any], dict[str, Any]]:
    """The first batches, and the state after them, also asked for when the iterator is long gone."""
    loader = make(order, seed, workers, **more)
    head = []
    if at >= 0:
        iterator = iter(loader)
        head = values(itertools.islice(iterator, at))
        state = loader.state_dict()
        del iterator
        assert loader.state_dict() == state
    return head, through_json(loader.state_dict())


# -- the order ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("before", "after"), [(0, 0), (0, 2), (2, 0), (1, 2)])
def test_rest_is_that_of_the_unbroken_run(order: str, before: int, after: int) -> None:
    """Every kind of sampler, workers before and after, every position (-1: before there is an iterator)."""
    unbroken = values(make(order, 3, before))
    everywhere = range(-1, len(unbroken) + 1)
    # What a sampler draws from the process before base_seed is only known once there is an iterator.
    first = 0 if order == "eager single" else -1
    ends = {0: [first, len(unbroken) - 1], 1: [1], 2: [2, len(unbroken)]}[before]
    positions = everywhere[first + 1 :] if before == after == 0 else ends
    for at in positions:
        head, state = broken(order, 3, before, at)
        loader = make(order, 99, after)
        loader.load_state_dict(state)
        assert through_json(loader.state_dict()) == state, "until it is taken up, it is the state"
        assert head + values(loader) == unbroken, at


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("order", ["shuffle", "stateful", "late stateful", "own draws", "generator", "lazy"])
def test_states_of_resumed_runs_resume(order: str, workers: int) -> None:
    unbroken = values(make(order, 3, workers))
    seen, state = [], {}
    for seed in range(40, 44):
        loader = make(order, 3 if not state else seed, workers)
        loader.load_state_dict(state)
        part = values(itertools.islice(iter(loader), 2))
        seen += part
        state = through_json(loader.state_dict())
        if len(part) < 2:
            break
    assert seen == unbroken


@pytest.mark.parametrize(("every", "workers"), [(0, 0), (2, 0), (4, 0), (None, 0), (2, 1)])
def test_snapshots_of_samplers_may_be_rare(every: int | None, workers: int) -> None:
    for order in ("stateful", "stateful iterator"):
        unbroken = values(make(order, 3, workers))
        for at in (0, 1, 3, 4) if workers == 0 else (3,):
            head, state = broken(order, 3, workers, at, snapshot_every_n_steps=every)
            loader = make(order, 99, workers, snapshot_every_n_steps=every)
            loader.load_state_dict(state)
            assert head + values(loader) == unbroken


@pytest.mark.parametrize("workers", [0, 2])
def test_nothing_is_loaded_again(workers: int) -> None:
    head, state = broken("shuffle", 3, workers, 3)
    loader = make("shuffle", 99, workers)
    loader.load_state_dict(state)
    rest = values(loader)
    assert sorted(itertools.chain(*head, *rest)) == list(range(SIZE))
    expected = [int(i in set(itertools.chain(*rest))) for i in range(SIZE)]
    assert loader.dataset.asked.tolist() == expected


def test_skips_ten_million_samples_without_loading_one() -> None:
    class Huge(data.Dataset):
        def __len__(self) -> int:
            return 10_000_000

        def __getitem__(self, index: int) -> int:
            return index

    loader = DataLoader(Huge(), batch_size=64)
    state = {**loader.state_dict(), "position": 156_249}
    begin = time.perf_counter()
    loader.load_state_dict(state)
    assert values(loader) == [list(range(9_999_936, 10_000_000))]
    assert time.perf_counter() - begin < 10


# -- random numbers are those of torch ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("workers", "persistent"), [(0, False), (2, False), (1, True)])
@pytest.mark.parametrize("order", ["sequential", "shuffle", "generator", "own generator", "eager", "lazy"])
def test_batches_and_generators_are_torchs(order: str, workers: int, persistent: bool) -> None:
    """Two epochs, with and without states taken meanwhile: the same batches, and the same generators afterwards."""
    seen = []
    for loader, asks in ((data.DataLoader, False), (DataLoader, False), (DataLoader, True))[:: 2 if workers else 1]:
        made = make(order, 3, workers, loader, persistent_workers=persistent)
        batches, marks = [], []
        for _ in range(2):
            for batch in made:
                batches.append(batch.tolist())
                marks.append(torch.get_rng_state().sum().item() if not workers else 0)
                if asks:
                    made.state_dict()
        if asks:
            made.state_dict()
        own = None if made.generator is None else made.generator.get_state().tolist()
        seen.append((batches, marks, torch.get_rng_state().tolist(), own, random.getstate(), np.random.random()))
    assert all(one == seen[0] for one in seen)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_loader_leaves_the_global_generator_as_a_new_one(workers: int) -> None:
    """The draws of a new iterator are made, though others are used; so the next epoch is that of a fresh program."""
    _, state = broken("shuffle", 3, workers, 2)
    fresh = make("shuffle", 99, workers)
    values(fresh)
    expected = torch.get_rng_state()
    following = values(fresh)
    loader = make("shuffle", 99, workers)
    loader.load_state_dict(state)
    values(loader)
    assert torch.equal(torch.get_rng_state(), expected)
    assert values(loader) == following


@pytest.mark.parametrize("order", ["lazy", "eager", "eager single"])
def test_other_samplers_draws_are_put_back(order: str) -> None:
    """Resumed, they draw from the states that were noted, and the program's generators see base_seed drawn alone."""
    _, state = broken(order, 3, 0, 2)
    loader = make(order, 99, 0)
    python, numpys = random.getstate(), np.random.get_state()[1].tolist()
    torch.empty((), dtype=torch.int64).random_()
    expected = torch.get_rng_state()
    loader = make(order, 99, 0)
    loader.load_state_dict(state)
    values(loader)
    assert torch.equal(torch.get_rng_state(), expected)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == (python, numpys)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("order", ["generator", "own generator"])
def test_a_generator_goes_on_as_in_the_unbroken_run(order: str, workers: int) -> None:
    unbroken = make(order, 3, workers)
    epochs = [values(unbroken) for _ in range(3)]
    head, state = broken(order, 3, workers, 2)
    loader = make(order, 99, workers)
    loader.load_state_dict(state)
    assert [head + values(loader), values(loader), values(loader)] == epochs
    assert loader.generator.get_state().tolist() == unbroken.generator.get_state().tolist()


def test_workers_are_seeded_as_before() -> None:
    class Seeds(Numbers):
        def __getitem__(self, index: int) -> int:
            return torch.initial_seed()

    seed_all(3)
    first = DataLoader(Seeds(), batch_size=1, num_workers=1)
    seeds = {int(next(iterator)) for iterator in [iter(first)] for _ in range(3)}
    seed_all(99)
    second = DataLoader(Seeds(), batch_size=1, num_workers=1)
    second.load_state_dict(through_json(first.state_dict()))
    assert {int(seed) for seed in second} == seeds


@pytest.mark.parametrize("workers", [0, 1])
def test_iterators_look_like_torchs(workers: int) -> None:
    ours, torchs = (iter(kind(Numbers(), num_workers=workers)) for kind in (DataLoader, data.DataLoader))
    assert isinstance(ours, type(torchs))
    assert type(ours).__name__ == type(torchs).__name__
    assert ours._profile_name == torchs._profile_name
    assert len(ours) == len(torchs) == SIZE
    with pytest.raises(NotImplementedError):
        pickle.dumps(ours)


# -- the ends of an epoch ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    "order", ["sequential", "shuffle", "generator", "stateful", "late stateful", "stateful iterator"]
)
def test_end_of_epoch(order: str, workers: int) -> None:
    """After the last batch there is nothing left; after the end there is the whole next epoch."""
    unbroken = make(order, 3, 0)
    epochs = [values(unbroken), values(unbroken)]
    loader = make(order, 3, workers)
    iterator = iter(loader)
    values(itertools.islice(iterator, len(epochs[0])))
    last = through_json(loader.state_dict())
    assert next(iterator, None) is None
    end = through_json(loader.state_dict())

    resumed = make(order, 99, workers)
    resumed.load_state_dict(last)
    assert values(resumed) == []
    assert len(values(resumed)) == len(epochs[0]), "the epoch after the empty rest is whole"
    resumed = make(order, 99, workers)
    resumed.load_state_dict(end)
    assert values(resumed) == epochs[1]


@pytest.mark.parametrize("workers", [0, 2])
def test_empty_state_is_a_fresh_start(workers: int) -> None:
    loader = make("shuffle", 3, workers)
    values(itertools.islice(iter(loader), 2))
    loader.load_state_dict({})
    seed_all(3)
    assert loader.state_dict() == make("shuffle", 3, workers).state_dict()
    seed_all(3)
    assert values(loader) == values(make("shuffle", 3, workers))


def test_state_before_iteration_draws_nothing() -> None:
    loader = make("shuffle", 3, 0)
    before = torch.get_rng_state()
    assert loader.state_dict() == loader.state_dict()
    assert torch.equal(torch.get_rng_state(), before)


def test_loaders_do_not_disturb_each_other() -> None:
    one, two = make("shuffle", 3, 0), make("shuffle", 3, 0)
    seed_all(3)
    first = iter(one)
    values(itertools.islice(first, 3))
    second = iter(two)
    values(itertools.islice(second, 1))
    assert (one.state_dict()["position"], two.state_dict()["position"]) == (3, 1)


def test_epoch_of_a_distributed_sampler() -> None:
    """Within an epoch the state's epoch counts, at its end the one that the program sets then."""
    head, state = broken("distributed", 3, 0, 2)
    unbroken = make("distributed", 3, 0)
    expected = values(unbroken)
    loader = make("distributed", 99, 0)
    loader.sampler.set_epoch(0)
    loader.load_state_dict(state)
    assert loader.sampler.epoch == 5
    loader.sampler.set_epoch(1)
    assert head + values(loader) == expected
    _, end = broken("distributed", 3, 0, 9)
    loader.load_state_dict(end)
    loader.sampler.set_epoch(6)
    unbroken.sampler.set_epoch(6)
    assert values(loader) == values(unbroken)


# -- workers that stay, and batches that overtake ----------------------------------------------------------------------


def test_persistent_workers_honour_a_loaded_state() -> None:
    unbroken = values(make("shuffle", 3, 2))
    head, state = broken("shuffle", 3, 2, 3, persistent_workers=True)
    for after in (2, 0):
        loader = make("shuffle", 99, after, persistent_workers=bool(after))
        values(loader)
        values(itertools.islice(iter(loader), 1))
        pids = [worker.pid for worker in loader._iterator._workers] if after else []
        loader.load_state_dict(state)
        assert head + values(loader) == unbroken
        assert len(values(loader)) == BATCHES
        assert pids == ([worker.pid for worker in loader._iterator._workers] if after else [])


class Stuck(Numbers):
    """The worker that is given sample 0 waits until the others are through with ``until``."""

    def __init__(self, until: int) -> None:
        super().__init__(12)
        self.until = until
        self.released = torch.zeros(()).share_memory_()

    def __getitem__(self, index: int) -> int:
        while index == 0 and self.asked.sum() < self.until and not self.released:
            time.sleep(0.005)
        return super().__getitem__(index)


@pytest.mark.parametrize("after", [0, 1, 2])
@pytest.mark.parametrize("at", [0, 1, 6, 10])
def test_overtaken_batches_come_once(after: int, at: int) -> None:
    loader = DataLoader(Stuck(8), num_workers=2, in_order=False)
    iterator = iter(loader)
    head = [int(batch) for batch in itertools.islice(iterator, at)]
    state = through_json(loader.state_dict())
    loader.dataset.released.fill_(1)
    del iterator
    if 0 < at < 8:
        assert 0 in state["missing"], "the first sample was overtaken"
    middle = DataLoader(Stuck(0), num_workers=after, in_order=after != 2)
    middle.load_state_dict(state)
    iterator = iter(middle)
    head += [int(batch) for batch in itertools.islice(iterator, 2)]
    last = DataLoader(Stuck(0))
    last.load_state_dict(through_json(middle.state_dict()))
    assert sorted(head + [int(batch) for batch in last]) == list(range(12))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 12), st.sets(st.integers(0, 11))), max_size=4))
def test_places_account_for_every_batch(runs: list[tuple[int, set[int]]]) -> None:
    """Whatever is sent and pending in a chain of iterators: a batch was handed out, or it is missing, or to come."""
    place, given_out = Place(Origin()), set()
    for sent, pending in runs:
        numbers = itertools.chain(place.missing, itertools.count(place.start))
        tasks = list(itertools.islice(numbers, sent))
        place.sent, place.pending = sent, tuple(sorted(p for p in pending if p < sent))
        given_out |= {number for task, number in enumerate(tasks) if task not in place.pending}
        end, missing = place.reached()
        assert set(range(end)) - set(missing) == given_out
        assert not missing or missing[-1] < end - 1
        place = Place(Origin(), end, missing)


# -- samples that fail -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
def test_a_batch_that_failed_is_not_asked_for_again(workers: int) -> None:
    class Failing(Numbers):
        def __getitem__(self, index: int) -> int:
            if index == 5:
                raise KeyError("no such sample")
            return index

    loader = DataLoader(Failing(), batch_size=BATCH, num_workers=workers)
    iterator = iter(loader)
    next(iterator)
    with pytest.raises(KeyError):
        next(iterator)
    resumed = DataLoader(Failing(), batch_size=BATCH, num_workers=workers)
    resumed.load_state_dict(loader.state_dict())
    assert values(resumed)[0] == [8, 9, 10, 11]


def test_an_interrupted_batch_is_asked_for_again() -> None:
    class Interrupted(Numbers):
        def __getitem__(self, index: int) -> int:
            if index == 5:
                raise KeyboardInterrupt
            return index

    loader = DataLoader(Interrupted(), batch_size=BATCH)
    iterator = iter(loader)
    next(iterator)
    with pytest.raises(KeyboardInterrupt):
        next(iterator)
    resumed = DataLoader(Numbers(), batch_size=BATCH)
    resumed.load_state_dict(loader.state_dict())
    assert values(resumed)[0] == [4, 5, 6, 7]


# -- iterable datasets -------------------------------------------------------------------------------------------------


class Stream(data.IterableDataset):
    """Divides ``0..22`` among the workers by turns."""

    def __init__(self) -> None:
        self.asked = torch.zeros(SIZE, dtype=torch.int64).share_memory_()

    def __iter__(self) -> Iterator[int]:
        info = data.get_worker_info()
        for i in range(SIZE) if info is None else range(info.id, SIZE, info.num_workers):
            self.asked[i] += 1
            yield i


class StatefulStream(Stream):
    """Knows where it is; loaded with its end it ends once, then begins anew (torchdata's documentation has such)."""

    def __init__(self) -> None:
        super().__init__()
        self.next, self.loaded = 0, None

    def __iter__(self) -> Iterator[int]:
        begin, self.loaded = self.loaded or 0, None
        for i in range(begin, SIZE):
            self.next = i + 1
            self.asked[i] += 1
            yield i

    def state_dict(self) -> dict[str, int]:
        return {"next": self.next}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.loaded = state["next"]


class Renewing(StatefulStream):
    """Begins anew by itself once it has come to its end."""

    def __iter__(self) -> Iterator[int]:
        while self.next < SIZE:
            self.next += 1
            self.asked[self.next - 1] += 1
            yield self.next - 1
        self.next = 0

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.next = state["next"]


class WithIterator(Stream):
    def __iter__(self) -> Any:
        return map_asked(self.asked)


class map_asked(StatefulIterator):  # noqa: N801
    def __init__(self, asked: torch.Tensor) -> None:
        super().__init__()
        self.asked = asked

    def __next__(self) -> int:
        if self.next >= SIZE:
            raise StopIteration
        self.asked[self.next] += 1
        self.next += 1
        return self.next - 1


class OwnIterator(Stream):
    """Is its own iterator, and has no state before it is one."""

    def __iter__(self) -> Any:
        self.inner = map_asked(self.asked)
        return self

    def __next__(self) -> int:
        return next(self.inner)

    def state_dict(self) -> dict[str, int]:
        return self.inner.state_dict()

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.inner.load_state_dict(state)


class Renumbered(StatefulStream):
    """Counts within the epoch, and begins to count when it is asked for the first sample (torchdata's tests have such)."""

    def __iter__(self) -> Iterator[int]:
        self.next, self.loaded = self.loaded or 0, None
        for i in range(self.next, SIZE):
            self.next += 1
            self.asked[i] += 1
            yield i
        self.next = 0


STREAMS = [Stream, StatefulStream, Renewing, WithIterator, OwnIterator, Renumbered]


@pytest.mark.parametrize("kind", STREAMS)
@pytest.mark.parametrize("size", [BATCH, None])
def test_iterable_datasets(kind: type[Stream], size: int | None) -> None:
    unbroken = values(DataLoader(kind(), batch_size=size))
    for at in range(-1, len(unbroken) + 1):
        loader = DataLoader(kind(), batch_size=size)
        head = []
        if at >= 0:
            iterator = iter(loader)
            head = values(itertools.islice(iterator, at))
        state = through_json(loader.state_dict())
        resumed = DataLoader(kind(), batch_size=size)
        resumed.load_state_dict(state)
        rest = values(resumed)
        assert head + rest == unbroken, at
        if kind is not Stream and at < len(unbroken):
            flat = set(rest) if size is None else set(itertools.chain(*rest))
            assert resumed.dataset.asked.tolist() == [int(i in flat) for i in range(SIZE)], "nothing is drawn again"
        assert values(resumed) == unbroken, "and the next epoch is whole"


@pytest.mark.parametrize("kind", STREAMS)
def test_iterable_datasets_after_their_end(kind: type[Stream]) -> None:
    loader = DataLoader(kind(), batch_size=BATCH)
    epoch = values(loader)
    resumed = DataLoader(kind(), batch_size=BATCH)
    resumed.load_state_dict(through_json(loader.state_dict()))
    assert values(resumed) == epoch
    assert values(resumed) == epoch


@pytest.mark.parametrize("persistent", [False, True])
def test_iterable_datasets_with_workers(persistent: bool) -> None:
    options: dict[str, Any] = {"batch_size": BATCH, "num_workers": 2, "persistent_workers": persistent}
    unbroken = values(DataLoader(Stream(), **options))
    resumed = DataLoader(Stream(), **options)
    for at in (-1, 0, 3, 6):
        loader = DataLoader(Stream(), **options)
        head = [] if at < 0 else values(itertools.islice(iter(loader), at))
        resumed.load_state_dict(through_json(loader.state_dict()))
        assert head + values(resumed) == unbroken, at


def test_iterable_datasets_with_workers_that_overtake() -> None:
    class Uneven(Stream):
        def __iter__(self) -> Iterator[int]:
            for i in super().__iter__():
                time.sleep(0.01 if i % 2 else 0)
                yield i

    loader = DataLoader(Uneven(), batch_size=2, num_workers=2, in_order=False)
    head = values(itertools.islice(iter(loader), 5))
    resumed = DataLoader(Stream(), batch_size=2, num_workers=2, in_order=False)
    resumed.load_state_dict(through_json(loader.state_dict()))
    assert sorted(itertools.chain(*head, *values(resumed))) == list(range(SIZE))


def test_a_map_dataset_with_a_state_is_asked_for_it() -> None:
    class Counting(Numbers):
        count = 0

        def __getitem__(self, index: int) -> int:
            self.count += 1
            return self.count

        def state_dict(self) -> dict[str, int]:
            return {"count": self.count}

        def load_state_dict(self, state: dict[str, int]) -> None:
            self.count = state["count"]

    loader = DataLoader(Counting(), batch_size=BATCH)
    values(itertools.islice(iter(loader), 2))
    resumed = DataLoader(Counting(), batch_size=BATCH)
    resumed.load_state_dict(through_json(loader.state_dict()))
    assert values(resumed)[0] == [9, 10, 11, 12]


# -- refusals, and the rest of the loader ------------------------------------------------------------------------------


def state_of(**more: Any) -> dict[str, Any]:
    return DataLoader(Numbers(), batch_size=BATCH, shuffle=True, **more).state_dict()


DAMAGED: dict[str, Callable[[dict[str, Any]], Any]] = {
    "expected, got list": lambda s: [s],
    "reads a Zenith dataset": lambda s: {"version": 1, "fingerprint": "0", "position": 0},
    "version 2": lambda s: {**s, "version": 2},
    "version None": lambda s: {k: v for k, v in s.items() if k != "version"},
    "kind 'other'": lambda s: {**s, "kind": "other"},
    "position is missing": lambda s: {k: v for k, v in s.items() if k != "position"},
    "position is '3'": lambda s: {**s, "position": "3"},
    "position is True": lambda s: {**s, "position": True},
    "negative": lambda s: {**s, "position": -1},
    "seed is 'x'": lambda s: {**s, "seed": "x"},
    "missing is": lambda s: {**s, "position": 3, "missing": [2, 1]},
    "dataset of 24 samples": lambda s: {**s, "length": 24},
    "batch_size=8": lambda s: {**s, "batch_size": 8},
    "the order": lambda s: {**s, "order": "SequentialSampler"},
    "at_first is": lambda s: {**s, "at_first": 3},
    "not a random state": lambda s: {**s, "at_first": {"torch": 3}},
    "1 generators": lambda s: {**s, "generators": ["AAAA"]},
    "iterable kind": lambda s: {**s, "kind": "iterable"},
    "another sampler": lambda s: {**s, "sampler": {"number": 0, "sampler": {}, "iterator": None}},
}


@pytest.mark.parametrize("text", DAMAGED)
def test_refusals(text: str) -> None:
    loader = DataLoader(Numbers(), batch_size=BATCH, shuffle=True)
    values(itertools.islice(iter(loader), 2))
    before = loader.state_dict()
    with pytest.raises(zenith.StateError, match=text):
        loader.load_state_dict(DAMAGED[text](copy.deepcopy(before)))
    assert loader.state_dict() == before, "a refused state changes nothing"


def test_refusals_between_kinds(tokens_file: Path) -> None:
    tokens = zenith.Tokens(tokens_file, dtype="uint16", seq_len=64)
    native = DataLoader(tokens, batch_size=BATCH)
    with pytest.raises(zenith.StateError):
        native.load_state_dict(state_of())
    with pytest.raises(zenith.StateError, match="natively"):
        DataLoader(Numbers()).load_state_dict(native.state_dict())
    sampled = DataLoader(tokens, batch_size=BATCH, collate_fn=lambda samples: len(samples))
    sampled.load_state_dict(through_json(sampled.state_dict()))
    assert next(iter(sampled)) == BATCH
    streaming = DataLoader(Stream(), batch_size=BATCH, num_workers=2).state_dict()
    with pytest.raises(zenith.StateError, match="num_workers=2, not 0"):
        DataLoader(Stream(), batch_size=BATCH).load_state_dict(streaming)
    with pytest.raises(zenith.StateError, match="dataset that has a state_dict"):
        DataLoader(Stream()).load_state_dict(DataLoader(StatefulStream()).state_dict())
    asked = DataLoader(WithIterator())
    values(itertools.islice(iter(asked), 2))
    plain = DataLoader(Stream())
    plain.load_state_dict(asked.state_dict())
    with pytest.raises(zenith.StateError, match="whose iterator has a state_dict"):
        iter(plain)
    with pytest.raises(zenith.StateError, match="another sampler"):
        DataLoader(Numbers(), batch_size=BATCH, sampler=range(SIZE)).load_state_dict(
            {
                **DataLoader(Numbers(), batch_size=BATCH, sampler=Stateful()).state_dict(),
                "order": "BatchSampler of range",
            }
        )


@pytest.mark.parametrize("every", [-1, True, 1.5, "1"])
def test_snapshots_every_nonsense(every: Any) -> None:
    with pytest.raises(ValueError, match="snapshot_every_n_steps"):
        DataLoader(Numbers(), snapshot_every_n_steps=every)


def test_states_are_small_and_loaders_are_copied_amid_an_epoch() -> None:
    loader = DataLoader(Numbers(), batch_size=BATCH, shuffle=True, snapshot_every_n_steps=5)
    assert loader.snapshot_every_n_steps == 5
    iterator = iter(loader)
    next(iterator)
    assert len(json.dumps(loader.state_dict())) < 512
    clone = pickle.loads(pickle.dumps(loader))
    assert clone.state_dict() == loader.state_dict()
    loader.load_state_dict(loader.state_dict())
    assert values(pickle.loads(pickle.dumps(loader))) == values(iterator)


def test_explain_names_the_iterator() -> None:
    text = DataLoader(Numbers(), num_workers=2).explain()
    assert "_MultiProcessingDataLoaderIter, 2 worker processes" in text
    assert "state: by position" in text
    assert "state: the dataset's own" in DataLoader(StatefulStream()).explain()
