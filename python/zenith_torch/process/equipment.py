"""What a worker's fetchers can do beyond torch's."""

from __future__ import annotations

import queue
from dataclasses import replace
from typing import Any

from torch._utils import ExceptionWrapper
from torch.utils.data import _DatasetKind, default_collate, get_worker_info

from zenith_torch import randomness
from zenith_torch.fetch import Fetch, gathering
from zenith_torch.process.collate import Collate
from zenith_torch.process.setup import Setup
from zenith_torch.process.tracking import Tracker, restore
from zenith_torch.process.watch import IDLE, Notes
from zenith_torch.samples import Parcel, Reader


class Equipment:
    """Stands by while torch's loop makes its fetchers: one at its start, and one for each later epoch."""

    def __init__(self, setup: Setup, notes: Notes | None) -> None:
        self.setup = setup
        """As the main process said last; it counts for fetchers made from then on."""
        self.notes = notes
        self._seeded: dict[str, str] | None = None

    def taken(self, task: Any) -> Any:
        """A task has come. Raises ``queue.Empty`` where it is one for the equipment, not for torch's loop."""
        if type(task) is Setup:
            self.setup = task
            raise queue.Empty
        if self.notes is not None and type(task) is tuple:
            self.notes.begin(task[0])
        return task

    def wait(self) -> None:
        """The next task is waited for."""
        if self.notes is not None:
            self.notes.begin(IDLE)

    def equip_fetchers(self, collate: Collate) -> None:
        """Lets the loop's fetchers take the shorter ways of `zenith_torch.fetch`, and know about single samples if need be."""
        create = _DatasetKind.create_fetcher

        def create_fetcher(kind: Any, dataset: Any, auto_collation: Any, collate_fn: Any, drop_last: Any) -> Any:
            is_iterable, setup = kind == _DatasetKind.Iterable, self.setup
            self.setup = replace(setup, start=None)
            restore(dataset, is_iterable, setup.start)
            fetcher = create(kind, dataset, auto_collation, collate_fn, drop_last)  # type: ignore[no-untyped-call]
            if self._seeded is None:
                self._seeded = randomness.take_globals()
            tracker = Tracker(fetcher, is_iterable, self._seeded, setup.start)
            if setup.skips or self.notes is not None:
                fetcher.fetch = Reader(fetcher, is_iterable, setup.skips, setup.listed, self.notes)
            if auto_collation and collate_fn is collate and not is_iterable and not setup.listed:
                fetcher.fetch = gathering(dataset, default_collate, fetcher.fetch, collate.empty) or fetcher.fetch
            fetcher.fetch = self._tracking(fetcher.fetch, tracker)
            return fetcher

        _DatasetKind.create_fetcher = staticmethod(create_fetcher)  # type: ignore[method-assign]

    def _tracking(self, fetch: Fetch, tracker: Tracker) -> Fetch:
        """Sends the worker's state along with batches, once somebody has asked for states."""

        def fetch_tracked(indices: Any) -> Any:
            try:
                data = fetch(indices)
            except StopIteration:
                raise
            except Exception:
                # The draws of a batch that failed were made all the same.
                state = tracker.after_batch(self.setup.every)
                if state is None:
                    raise
                where = f"in DataLoader worker process {_worker()}"
                data = ExceptionWrapper(where=where)  # type: ignore[no-untyped-call]
                return Parcel(data, state=state, worker=_worker())
            state = tracker.after_batch(self.setup.every)
            if state is None:
                return data
            if type(data) is not Parcel:
                data = Parcel(data)
            data.state, data.worker = state, _worker()
            return data

        return fetch_tracked


def _worker() -> int:
    info = get_worker_info()
    assert info is not None
    return info.id
