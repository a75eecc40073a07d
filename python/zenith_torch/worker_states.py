"""What the workers of an iterator were in after the batches that were handed out, as they told with those batches."""

from __future__ import annotations

from typing import Any

State = dict[str, Any]


class WorkerStates:
    """One state per worker of a map-style dataset; of an iterable one, several, of which those are taken that fit together."""

    def __init__(self, workers: int, begun: list[State | None] | None) -> None:
        self.latest: list[State | None] = [None] * workers if begun is None else list(begun)
        self._past: list[dict[int, State]] = [
            {} if state is None or "at" not in state else {state["at"]: state} for state in self.latest
        ]

    def note(self, worker: int, state: State) -> None:
        """A batch was handed out, with what its worker was in after it."""
        self.latest[worker] = {**(self.latest[worker] or {}), **state}
        if "at" in state:
            self._past[worker][state["at"]] = state

    def cut(self, given: list[int]) -> list[State | None] | None:
        """States of iterable datasets from which the workers go on in step, after so many batches of each.

        All workers begin at the same round, so that batches come in the order of before once those in between were drawn
        again; but for workers that have come to their end, of which nothing comes in between either way.
        """
        behind = max(given) - 1
        under_way = [worker for worker, count in enumerate(given) if count >= behind]
        least = min(given[worker] for worker in under_way)
        common = set.intersection(*(set(self._past[worker]) for worker in under_way))
        round_ = max((count for count in common if count <= least), default=0)
        if not round_:
            return None
        for past in self._past:
            fitting = max((count for count in past if count <= round_), default=0)
            for count in [count for count in past if count < fitting]:
                del past[count]
        return [past.get(max((count for count in past if count <= round_), default=0)) for past in self._past]
