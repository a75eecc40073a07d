"""Iterable datasets with a state of their own, of their iterator, or without any."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.utils.data as data
from state_samplers import SIZE, StatefulIterator


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
