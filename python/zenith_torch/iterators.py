"""Torch's iterator in the calling process. It bears the name of torch's class: profilers look for it."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable
from typing import Any

from torch.utils.data import dataloader as torchs
from zenith.errors import StateError

from zenith_torch.fetch import gathering
from zenith_torch.placed import Placed
from zenith_torch.plan import Plan
from zenith_torch.sampler_tree import is_stateful, keeps_dataset_state
from zenith_torch.samples import Reader
from zenith_torch.watchdog import Watchdog


class _SingleProcessDataLoaderIter(Placed, torchs._SingleProcessDataLoaderIter):
    """Torch's iterator in the calling process."""

    _watchdog: Watchdog | None = None

    def _next_index(self) -> Any:
        index = super()._next_index()
        if self._watchdog is not None:
            self._watchdog.begin(self._drawn.get(0))
        return index

    def _next_placed(self) -> Any:
        place = self._place
        try:
            data = torchs._SingleProcessDataLoaderIter._next_data(self)  # type: ignore[no-untyped-call]
        except Exception as error:
            # A sample that cannot be had is passed by, here as in torch: the next call is for the batch after it.
            # An interrupt is no such thing, and leaves the place where it is.
            place.finished = isinstance(error, StopIteration)
            if not self._is_iterable:
                place.sent = self._sampler_iter.taken
            raise
        finally:
            if self._watchdog is not None:
                self._watchdog.end()
        place.finished = False
        place.sent = place.sent + 1 if self._is_iterable else self._sampler_iter.taken
        return data

    def _forward(self, plan: Plan) -> None:
        """Moves an iterable dataset on: by its own state if it has one, else by drawing what was drawn before."""
        fetcher, part = self._dataset_fetcher._fetcher, plan.dataset
        if part is not None:
            if part.get("iterator") is not None:
                if not is_stateful(fetcher.dataset_iter):
                    raise StateError(
                        "the state is of a dataset whose iterator has a state_dict(), and this one has none"
                    )
                fetcher.dataset_iter.load_state_dict(copy.deepcopy(part["iterator"]))
            fetcher.ended = bool(part.get("ended", False))
            return
        for _ in range(plan.position):
            try:
                self._next_placed()
            except StopIteration:
                break

    def _settle(self) -> None:
        fetcher, policy, listed = self._dataset_fetcher, self._policy, self._account.listed
        if self._stall_timeout is not None:
            self._watchdog = Watchdog(self._stall_timeout)
            weakref.finalize(self, self._watchdog.stop)
        fetch = fetcher.fetch
        if policy.skips or self._watchdog is not None:
            fetch = Reader(fetcher, self._is_iterable, policy.skips, listed, self._watchdog)
        if self._auto_collation and not self._is_iterable and not listed:
            fetch = gathering(self._dataset, self._collate_fn, fetch) or fetch
        self._dataset_fetcher = _Fetcher(fetcher, fetch)
        super()._settle()
        if self._is_iterable and (keeps_dataset_state(self._dataset) or is_stateful(fetcher.dataset_iter)):
            self._place.source = fetcher


class _Fetcher:
    """Torch's fetcher with another way to fetch: beside it, as an attribute of it would make a cycle that keeps the dataset."""

    def __init__(self, fetcher: Any, fetch: Callable[[Any], Any]) -> None:
        self._fetcher = fetcher
        self.fetch = fetch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._fetcher, name)
