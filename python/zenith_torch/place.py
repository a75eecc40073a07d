"""Where an iterator over any dataset stands: plain data, and the state of a loader that is made of it."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

from zenith.errors import StateError

VERSION = 1


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
    sent: int = 0
    """Batches asked for by this iterator; all of them were handed out, but for ``pending``."""
    pending: tuple[int, ...] = ()
    begun: bool = False
    """The first index was asked for, so the origin is complete."""
    finished: bool = False
    snapshots: list[Snapshot] = field(default_factory=list)
    workers: list[int] | None = None
    """Batches handed out by each worker (iterable datasets)."""
    fresh: Plan | None = None
    """The state that it began from, which it is in as long as ``sent`` is ``sent_before``."""
    sent_before: int = 0
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


@dataclass
class Plan:
    """A checked state: where the next iterator begins."""

    kind: str
    length: int | None
    order: str
    batch_size: int | None
    num_workers: int
    origin: Origin
    position: int = 0
    missing: tuple[int, ...] = ()
    finished: bool = False
    snapshot: Snapshot | None = None
    workers: list[int] | None = None
    dataset: dict[str, Any] | None = None

    def as_state(self) -> dict[str, Any]:
        """As JSON-able values; what says nothing is left out."""
        state: dict[str, Any] = {
            "version": VERSION,
            "kind": self.kind,
            "position": self.position,
            "length": self.length,
            "order": self.order,
            "batch_size": self.batch_size,
            "num_workers": self.num_workers,
        }
        for name, value in vars(self.origin).items():
            if value is not None and value != {}:
                state[name] = copy.copy(value)
        if self.missing:
            state["missing"] = list(self.missing)
        if self.finished:
            state["finished"] = True
        if self.snapshot is not None:
            state["sampler"] = copy.deepcopy(vars(self.snapshot))
        if self.workers is not None:
            state["workers"] = list(self.workers)
        if self.dataset is not None:
            state["dataset"] = copy.deepcopy(self.dataset)
        return state

    @staticmethod
    def of_state(state: Any) -> Plan:
        """Reads a state.

        Raises:
            zenith.StateError: it is of a native loader, of a newer version, or damaged.
        """
        if not isinstance(state, dict):
            raise StateError(f"the loader's state is damaged: a dict is expected, got {type(state).__name__}")
        if "fingerprint" in state:
            raise StateError(
                "the state is of a loader that reads a Zenith dataset natively, and this one does not (see explain())"
            )
        version = state.get("version")
        if isinstance(version, int) and version > VERSION:
            raise StateError(f"the loader's state has version {version}; this version of Zenith reads {VERSION}")
        if version != VERSION or state.get("kind") not in ("map", "iterable"):
            raise StateError(f"the loader's state is damaged: version {version!r}, kind {state.get('kind')!r}")
        for name, (kinds, needed) in _FIELDS.items():
            if name not in state and needed:
                raise StateError(f"the loader's state is damaged: {name} is missing")
            value = state.get(name)
            if name in state and (not isinstance(value, kinds) or (isinstance(value, bool) and name != "finished")):
                raise StateError(f"the loader's state is damaged: {name} is {value!r}")
        if state["position"] < 0 or state["num_workers"] < 0:
            raise StateError("the loader's state is damaged: a negative count")
        for name, kind in (("missing", int), ("workers", int), ("generators", str)):
            if any(not isinstance(item, kind) or isinstance(item, bool) for item in state.get(name, ())):
                raise StateError(f"the loader's state is damaged: {name} is {state[name]!r}")
        if any(not isinstance(text, str) for name in ("at_iter", "at_first") for text in state.get(name, {}).values()):
            raise StateError("the loader's state is damaged: not a random state")
        missing = tuple(state.get("missing", ()))
        if list(missing) != sorted(set(missing)) or (
            missing and not 0 <= missing[0] <= missing[-1] < state["position"]
        ):
            raise StateError(f"the loader's state is damaged: missing is {list(missing)}")
        snapshot = state.get("sampler")
        if snapshot is not None and not (
            isinstance(snapshot.get("number"), int)
            and 0 <= snapshot["number"] <= min(missing, default=state["position"])
        ):
            raise StateError("the loader's state is damaged: the sampler's part has no number")
        origin = Origin(**{name: state[name] for name in vars(Origin()) if name in state})
        return Plan(
            kind=state["kind"],
            length=state["length"],
            order=state["order"],
            batch_size=state["batch_size"],
            num_workers=state["num_workers"],
            origin=origin,
            position=state["position"],
            missing=missing,
            finished=state.get("finished", False),
            snapshot=None
            if snapshot is None
            else Snapshot(snapshot["number"], snapshot.get("sampler"), snapshot.get("iterator")),
            workers=state.get("workers"),
            dataset=state.get("dataset"),
        )


_INT: tuple[type, ...] = (int, type(None))
_FIELDS: dict[str, tuple[tuple[type, ...], bool]] = {
    "position": ((int,), True),
    "length": (_INT, True),
    "order": ((str,), True),
    "batch_size": (_INT, True),
    "num_workers": ((int,), True),
    "base_seed": ((int,), False),
    "seed": ((int,), False),
    "at_iter": ((dict,), False),
    "at_first": ((dict,), False),
    "generators": ((list,), False),
    "epoch": ((int,), False),
    "plan_seed": ((int,), False),
    "missing": ((list,), False),
    "finished": ((bool,), False),
    "sampler": ((dict,), False),
    "workers": ((list,), False),
    "dataset": ((dict,), False),
}
