"""The state of a loader over any dataset, and the plan that it is for the next iterator."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

from zenith.errors import StateError

from zenith_torch.place import Origin, Snapshot

VERSION = 1


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
    worker_states: list[dict[str, Any] | None] | None = None
    offset: int = 0
    """Samples of the epoch before its first batch: they were handed out in batches of another size."""

    def rebatched(self, batch_size: int) -> Plan:
        """The same place, for batches of another size."""
        assert self.batch_size is not None
        if self.finished:
            return replace(self, batch_size=batch_size)
        return replace(self, batch_size=batch_size, position=0, offset=self.offset + self.position * self.batch_size)

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
        if self.offset:
            state["offset"] = self.offset
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
        if self.worker_states is not None and len(self.worker_states) == self.num_workers:
            state["worker_states"] = copy.deepcopy(self.worker_states)
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
        if min(state["position"], state["num_workers"], state.get("offset", 0)) < 0:
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
        told = state.get("worker_states")
        if told is not None and (len(told) != state["num_workers"] or not all(map(_is_worker_state, told))):
            raise StateError("the loader's state is damaged: worker_states is not one for each worker")
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
            worker_states=told,
            offset=state.get("offset", 0),
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
    "worker_states": ((list,), False),
    "offset": ((int,), False),
}


def _is_worker_state(told: Any) -> bool:
    if told is None:
        return True
    return (
        isinstance(told, dict)
        and isinstance(told.get("at", 0), int)
        and isinstance(told.get("random", {}), dict)
        and all(isinstance(text, str) for text in told.get("random", {}).values())
    )
