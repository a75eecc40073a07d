"""What a worker is in after a batch, beyond the dataset it was given: random states, and the dataset's own."""

from __future__ import annotations

import copy
from typing import Any

from zenith.errors import StateError

from zenith_torch import randomness
from zenith_torch.drawn import Drawn
from zenith_torch.sampler_tree import is_stateful, keeps_dataset_state, restore_dataset


class Tracker:
    """Tells the state of one fetcher's epoch, where it is another than before; ``seeded`` is what every new worker has.

    What was never drawn from is not told: a new worker is seeded alike. An iterable dataset without a state is read anew from
    its beginning, and draws the same again by that, so nothing is told of it at all.
    """

    def __init__(self, fetcher: Any, is_iterable: bool, seeded: dict[str, str], start: dict[str, Any] | None) -> None:
        self._fetcher = fetcher
        self._is_iterable = is_iterable
        self._asks_dataset = keeps_dataset_state(fetcher.dataset)
        self._asks_iterator = is_iterable and is_stateful(fetcher.dataset_iter)
        self._count = 0
        if start is not None:
            self._count = start.get("at", 0)
            if start.get("iterator") is not None:
                if not self._asks_iterator:
                    raise StateError(
                        "the state is of a dataset whose iterator has a state_dict(), and this one has none"
                    )
                fetcher.dataset_iter.load_state_dict(copy.deepcopy(start["iterator"]))
            if start.get("ended"):
                fetcher.ended = True
            randomness.put_globals(start.get("random", {}))
        self._drawn = Drawn()
        self._moved = {name: text for name, text in randomness.take_globals().items() if text != seeded.get(name)}

    def after_batch(self, every: int | None) -> dict[str, Any] | None:
        """The state, as JSON-able values where the dataset's are; ``None`` where there is nothing new to tell.

        Args:
            every: batches between two states of iterable datasets; ``None``: nobody asks.
        """
        self._count += 1
        if every is None:
            return None
        asks = self._asks_dataset or self._asks_iterator
        if self._is_iterable and (not asks or self._count % every):
            return None
        state: dict[str, Any] = {}
        changed = self._drawn.look()
        for name in changed:
            text = randomness.take_global(name)
            if text is not None:
                self._moved[name] = text
        if changed or self._is_iterable:
            state["random"] = dict(self._moved)
        if self._asks_dataset:
            state["dataset"] = copy.deepcopy(self._fetcher.dataset.state_dict())
        if self._asks_iterator:
            state["iterator"] = copy.deepcopy(self._fetcher.dataset_iter.state_dict())
        if self._is_iterable:
            state["at"] = self._count
            if self._fetcher.ended:
                state["ended"] = True
        return state or None


def restore(dataset: Any, is_iterable: bool, start: dict[str, Any] | None) -> None:
    """Gives the dataset its state back before anything iterates it."""
    if start is not None and start.get("dataset") is not None and keeps_dataset_state(dataset):
        restore_dataset(dataset, start["dataset"], is_iterable and bool(start.get("ended")))
