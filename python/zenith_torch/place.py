"""Where an iterator over any dataset stands, as plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from zenith_torch.worker_states import WorkerStates

if TYPE_CHECKING:
    from zenith_torch.plan import Plan


@dataclass
class Origin:
    """What an epoch's order came from: enough to draw the same indices again."""

    base_seed: int | None = None
    """Seed of the workers: worker *i* seeds its generators with ``base_seed + i``."""
    seed: int | None = None
    """What a ``RandomSampler`` without a generator of its own drew."""
    at_iter: dict[str, str] = field(default_factory=dict)
    """Generators of the process, as they were before ``iter(sampler)``, that it drew from."""
    at_first: dict[str, str] = field(default_factory=dict)
    """The same before the first index was asked for."""
    generators: list[str] | None = None
    """Those of the loader and its samplers, before the first index was asked for."""
    epoch: int | None = None
    """Epoch of a ``DistributedSampler``."""
    plan_seed: int | None = None
    """Seed of a `PlanSampler`, which may be its own draw."""


@dataclass
class Snapshot:
    """The state of a sampler that has one, after ``number`` index batches of the epoch."""

    number: int
    sampler: Any = None
    iterator: Any = None


@dataclass
class Place:
    """How far an epoch has come, in index batches; kept when the iterator is gone, so it holds no batch and no worker."""

    origin: Origin
    start: int = 0
    """Number of the first index batch that earlier iterators did not come to."""
    missing: tuple[int, ...] = ()
    """Numbers before ``start`` that they did not hand out (``in_order=False``), ascending."""
    offset: int = 0
    """Samples before the first of these numbers: earlier iterators handed them out in batches of another size."""
    sent: int = 0
    """Batches asked for by this iterator; all of them were handed out, but for ``pending``."""
    pending: tuple[int, ...] = ()
    begun: bool = False
    """The first index was asked for, so the origin is complete."""
    finished: bool = False
    snapshots: list[Snapshot] = field(default_factory=list)
    workers: list[int] | None = None
    """Batches handed out by each worker (iterable datasets)."""
    states: WorkerStates | None = None
    """What the workers said of themselves."""
    fresh: Plan | None = None
    """The state that it began from, which it is in as long as ``sent`` is ``sent_before``."""
    sent_before: int = 0
    template: dict[str, Any] | None = None
    """The loader's state, where nothing in it but the position and the length can change within the epoch."""
    source: Any = None
    """The fetcher, where an iterable dataset or its iterator is asked for its state."""

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "source": None}

    def reached(self) -> tuple[int, tuple[int, ...]]:
        """The number after the last one handed out, and those before it that were not."""
        behind = len(self.missing)

        def number(task: int) -> int:
            return self.missing[task] if task < behind else self.start + task - behind

        end = number(self.sent) if self.sent > behind else self.start
        missing = sorted({*self.missing[self.sent :], *(number(task) for task in self.pending)})
        while missing and missing[-1] == end - 1:
            end = missing.pop()
        return end, tuple(missing)
