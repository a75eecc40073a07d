"""Samplers of every kind that a state must bring back: torch's, ones with a state of their own, and ones that draw somewhere."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
import torch.utils.data as data

SIZE = 23
BATCH = 4


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
