"""What torch's two iterators have in common here: they know how far they have come, begin where a state wants it, and count."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from torch._utils import ExceptionWrapper

from zenith_torch.account import Account
from zenith_torch.bad_samples import Policy
from zenith_torch.indices import Indices
from zenith_torch.place import Origin, Place
from zenith_torch.plan import Plan
from zenith_torch.sampler_tree import SamplerTree, keeps_dataset_state, restore_dataset
from zenith_torch.samples import Parcel

if TYPE_CHECKING:
    from zenith_torch.loader import DataLoader


class Placed:
    """Goes before torch's class among the bases."""

    _dataset: Any
    _dataset_kind: int
    _num_workers: int
    _num_yielded: int
    _auto_collation: bool
    _last_worker: int | None = None
    _sampler_iter: Any

    def __init__(self, loader: DataLoader[Any]) -> None:
        self._resume = loader._resume
        self._policy = Policy.of(loader)
        self._stall_timeout = loader.stall_timeout
        self._is_iterable = loader._dataset_kind == 1
        self._indices = Indices(SamplerTree(loader._index_sampler, loader.generator), loader.snapshot_every_n_steps)
        self._begin()
        super().__init__(loader)  # type: ignore[call-arg]
        self._settle()

    def _begin(self) -> None:
        """A new place: at the beginning of an epoch, or where the loaded state wants it."""
        plan = self._plan = self._resume.plan
        if plan is None:
            self._place = Place(Origin())
        else:
            self._place = Place(copy.deepcopy(plan.origin), plan.position, plan.missing, plan.offset)
        if self._is_iterable:
            # Batches of an iterable dataset are counted one by one, from the beginning of the epoch.
            self._place.start, self._place.begun = 0, True
        self._indices.place, self._indices.plan = self._place, plan
        self._early: list[Any] = []
        self._drawn: dict[int, Any] = {}
        self._account = Account(self._policy, self._is_iterable)

    def _settle(self) -> None:
        """After torch's part of the beginning: from here on the loader's state is that of this epoch."""
        place, plan = self._place, self._plan
        place.origin.base_seed = self._base_seed
        if self._is_iterable:
            if self._num_workers:
                place.workers = [0] * self._num_workers
            if plan is not None:
                self._forward(plan)
                place.sent, place.finished, self._num_yielded = plan.position, False, plan.position
        place.fresh, place.sent_before = plan, place.sent
        self._resume.begin(place, self._account, self)

    def _next_data(self) -> Any:
        account = self._account
        asked = account.ask()
        try:
            while True:
                data = self._next_placed()
                if type(data) is not Parcel:
                    account.count(self._takesize_of())
                    return data
                if data.state is not None:
                    self._note(data)
                if isinstance(data.data, ExceptionWrapper):
                    data.data.reraise()  # type: ignore[no-untyped-call]
                account.unpack(data, self._takesize_of(), self._last_worker)
                if not data.is_empty:
                    return data.data
        except Exception:
            self._takesize_of()
            raise
        finally:
            account.answer(asked)

    def _note(self, parcel: Parcel) -> None:
        """A worker has told its state."""
        place = self._place
        assert place.states is not None
        assert parcel.state is not None
        assert parcel.worker is not None
        place.states.note(parcel.worker, parcel.state)
        place.template = None

    def _on_asked(self) -> None:
        """Somebody wants states from now on."""

    def _next_placed(self) -> Any:
        """Torch's ``_next_data()``, after which the place is known."""
        raise NotImplementedError

    def _next_index(self) -> Any:
        index = super()._next_index()  # type: ignore[misc]
        if not self._is_iterable:
            self._drawn[self._next_task()] = index if self._auto_collation else (index,)
        return index

    def _next_task(self) -> int:
        """Number of the task that the index batch drawn next is for."""
        return 0

    def _takesize_of(self) -> int:
        """Samples that the index batch of the batch just handed out has."""
        return size_of(self._drawn.pop(0, ()))

    # Torch's constructor sets these two, and goes on with what is found there: so they are not taken from the loader's
    # generators and samplers alone, where a state has a say.

    @property
    def _index_sampler(self) -> Any:
        return self._sampler if self._is_iterable else self._indices

    @_index_sampler.setter
    def _index_sampler(self, sampler: Any) -> None:
        self._sampler = sampler

    @property
    def _base_seed(self) -> Any:
        return self._seed

    @_base_seed.setter
    def _base_seed(self, drawn: Any) -> None:
        planned = None if self._plan is None else self._plan.origin.base_seed
        self._seed = drawn if planned is None else planned
        # Nothing has iterated the dataset yet, and whatever a new iterator draws from the process has been drawn: a
        # dataset that puts such a generator back finds it so.
        self._load_dataset(self._dataset)

    def _load_dataset(self, dataset: Any) -> None:
        """Gives a dataset its state back before anything iterates it."""
        plan = self._plan
        if plan is None or plan.dataset is None or plan.dataset.get("dataset") is None:
            return
        if not keeps_dataset_state(dataset):
            return
        at_end = self._is_iterable and (plan.finished or plan.dataset.get("ended", False))
        restore_dataset(dataset, plan.dataset["dataset"], at_end)

    def _forward(self, plan: Plan) -> None:
        """Moves an iterable dataset to where the plan wants it."""
        raise NotImplementedError

    def __next__(self) -> Any:
        if self._is_iterable or self._sampler_iter is None or torch.autograd._profiler_enabled():  # type: ignore[attr-defined]
            return super().__next__()  # type: ignore[misc]
        # What torch does, without making a record that no profiler reads.
        data = self._next_data()
        self._num_yielded += 1
        return data


def size_of(index: Any) -> int:
    """How many samples an index batch asks for; a batch sampler may give what has no length."""
    return len(index) if hasattr(index, "__len__") else 0
