"""Reads the samples of a batch one by one, where it matters which one fails or takes long.

Torch's fetchers read a batch as a whole: one sample that cannot be had costs it all. Where bad samples are to be skipped, or
a stall to be told with the sample's index, a `Reader` stands in the place of a fetcher's ``fetch``.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from types import GeneratorType
from typing import Any, Protocol

from torch.utils.data import IterDataPipe
from torch.utils.data._utils.pin_memory import pin_memory

_FAILURES_MAX = 1000
"""So many failures in a row of an iterable dataset's iterator are one of the iterator, not of samples."""

_TEXT_MAX = 2000


@dataclass(frozen=True)
class Loss:
    """A sample that was left out of its batch."""

    index: int | str | None
    """What was asked for; ``None``: the next one of an iterable dataset."""
    kind: str
    """Type of the exception; empty where the sample was listed in the quarantine, and not read."""
    message: str

    @staticmethod
    def of(index: Any, error: Exception) -> Loss:
        try:
            message = str(error)
        except Exception:
            message = "(it has no text)"
        return Loss(None if index is None else key_of(index), type(error).__name__, message[:_TEXT_MAX])


def key_of(index: Any) -> int | str:
    """An index as JSON holds it, the same for equal numbers of any type."""
    if isinstance(index, str):
        return index
    try:
        return operator.index(index)
    except TypeError:
        return repr(index)


@dataclass
class Parcel:
    """A batch on its way to the consumer, with what the iterator is to know of it besides."""

    data: Any
    losses: tuple[Loss, ...] = ()
    is_empty: bool = False
    """No sample is left; there is no data."""
    state: dict[str, Any] | None = None
    """What the worker is in after it, and which one that is."""
    worker: int | None = None

    def pin_memory(self) -> Parcel:
        """Torch's pinning asks this of what it does not know."""
        if not self.is_empty:
            self.data = pin_memory(self.data)  # type: ignore[no-untyped-call]
        return self


class Progress(Protocol):
    """Is told which sample of a batch is being read."""

    def at(self, place: int) -> None:
        """Place in the index batch, or one of the constants below."""


AT_ONCE, COLLATING = -2, -3
"""All samples are read by one call of the dataset; they have been read."""


class Reader:
    """A function on an index batch that gives the batch, or a `Parcel` where samples are missing.

    Args:
        fetcher: torch's, which knows the dataset and how to collate.
        skips: whether samples that raise an exception are left out; else the exception leaves as it does in torch.
        listed: indices that are left out unread.
        progress: is told where the reading is.
    """

    def __init__(
        self, fetcher: Any, is_iterable: bool, skips: bool, listed: frozenset[int | str], progress: Progress | None
    ) -> None:
        self._fetcher = fetcher
        self._skips = skips
        self._listed = listed
        self._at: Callable[[int], None] = _nowhere if progress is None else progress.at
        self._failures = 0
        self._is_iterable = is_iterable

    def __call__(self, indices: Any) -> Any:
        losses: list[Loss] = []
        if self._fetcher.auto_collation:
            data = self._drawn(indices, losses) if self._is_iterable else self._asked(indices, losses)
        else:
            data = self._drawn_alone(losses) if self._is_iterable else self._asked_alone(indices, losses)
        self._at(COLLATING)
        if not losses:
            return self._fetcher.collate_fn(data)
        if not data if self._fetcher.auto_collation else data is _NOTHING:
            return Parcel(None, tuple(losses), is_empty=True)
        return Parcel(self._fetcher.collate_fn(data), tuple(losses))

    # -- map-style datasets ----------------------------------------------------------------------------------------

    def _asked(self, indices: Any, losses: list[Loss]) -> Any:
        dataset = self._fetcher.dataset
        if hasattr(dataset, "__getitems__") and dataset.__getitems__:
            return self._asked_at_once(dataset, indices, losses)
        samples = []
        for place, index in enumerate(indices):
            self._at(place)
            if self._is_listed(index, losses):
                continue
            try:
                samples.append(dataset[index])
            except Exception as error:
                self._lose(index, error, losses)
        return samples

    def _asked_at_once(self, dataset: Any, indices: Any, losses: list[Loss]) -> Any:
        if self._listed:
            indices = [index for index in indices if not self._is_listed(index, losses)]
            if not indices:
                return []
        self._at(AT_ONCE)
        try:
            return dataset.__getitems__(indices)
        except Exception:
            if not self._skips:
                raise
            samples = []
            for place, index in enumerate(indices):
                self._at(place)
                try:
                    samples.append(_only(dataset.__getitems__([index])))
                except Exception as error:
                    losses.append(Loss.of(index, error))
            if not losses:
                # Each by itself can be had, so it is not a sample that fails.
                raise
            return samples

    def _asked_alone(self, index: Any, losses: list[Loss]) -> Any:
        self._at(0)
        if self._is_listed(index, losses):
            return _NOTHING
        try:
            return self._fetcher.dataset[index]
        except Exception as error:
            self._lose(index, error, losses)
            return _NOTHING

    def _is_listed(self, index: Any, losses: list[Loss]) -> bool:
        if not self._listed:
            return False
        key = key_of(index)
        if key not in self._listed:
            return False
        losses.append(Loss(key, "", ""))
        return True

    def _lose(self, index: Any, error: Exception, losses: list[Loss]) -> None:
        if not self._skips:
            raise error
        losses.append(Loss.of(index, error))

    # -- iterable datasets -----------------------------------------------------------------------------------------

    def _drawn(self, indices: Any, losses: list[Loss]) -> Any:
        fetcher, samples, places = self._fetcher, [], 0
        if fetcher.ended:
            raise StopIteration
        for _ in indices:
            self._at(places)
            try:
                sample = self._draw(losses)
            except StopIteration:
                fetcher.ended = True
                break
            places += 1
            if sample is not _NOTHING:
                samples.append(sample)
        if places == 0 or (fetcher.drop_last and places < len(indices)):
            raise StopIteration
        return samples

    def _drawn_alone(self, losses: list[Loss]) -> Any:
        if self._fetcher.ended:
            raise StopIteration
        self._at(0)
        return self._draw(losses)

    def _draw(self, losses: list[Loss]) -> Any:
        """The next sample, or that it cannot be had."""
        iterator = self._fetcher.dataset_iter
        try:
            sample = next(iterator)
        except StopIteration:
            raise
        except Exception as error:
            # A generator ends where it raises: to go on would be to lose the rest without a word.
            if not self._skips or isinstance(iterator, GeneratorType) or self._is_pipe():
                raise
            self._failures += 1
            if self._failures > _FAILURES_MAX:
                raise
            losses.append(Loss.of(None, error))
            return _NOTHING
        self._failures = 0
        return sample

    def _is_pipe(self) -> bool:
        return isinstance(self._fetcher.dataset, IterDataPipe)


_NOTHING = object()


def _nowhere(_: int) -> None:
    pass


def _only(samples: Any) -> Any:
    (sample,) = samples
    return sample
