"""One epoch read natively: an iterator of batches whose arrays lie in the engine's memory."""

from __future__ import annotations

import json
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from zenith import _engine, exits
from zenith.errors import InvalidArgumentError, StallError

if TYPE_CHECKING:
    from zenith_jax.arrays import Arrays
    from zenith_jax.epochs import Epochs

BATCH, _PENDING, END = range(3)

# The wait is cut into pieces so that Ctrl-C is served within this time.
_WAIT_MS = 50


class NativeIter:
    """Iterates one epoch (or the rest of one); ``next()`` hands out batches in the order of the plan."""

    def __init__(
        self, epochs: Epochs, engine: _engine.Epoch, arrays: Arrays, mask: str | None, stall_timeout: float | None
    ) -> None:
        self._done = True
        self._epochs = epochs
        self._engine = engine
        self.id = engine.id
        self.is_ahead = False
        """Whether another iterator hands its batches out: then that one tells where the loader stands."""
        self._arrays = arrays
        self._mask = mask
        self._stall_timeout = stall_timeout
        self._position = engine.position
        self._valid = 0
        self._interrupted: list[tuple[list[_engine.Part], int]] = []
        """Batches that were taken from the engine and did not reach the caller, with the position after each."""
        self._finishing = threading.Lock()
        self._last_stats: dict[str, Any] = {}
        self._done = False

    def __iter__(self) -> NativeIter:
        return self

    def __next__(self) -> dict[str, Any]:
        if threading.get_ident() != exits.MAIN:
            with exits.aside():
                return self._next()
        return self._next()

    def _next(self) -> dict[str, Any]:
        late_at = None if self._stall_timeout is None else time.monotonic() + self._stall_timeout
        with suppress(IndexError):
            return self._deliver(*self._interrupted.pop())
        while not self._done:
            try:
                status, parts = _engine.next_parts(self.id, _WAIT_MS)
            except InvalidArgumentError as error:
                # Another thread that shares this iterator has met the end meanwhile and closed it.
                if self._done:
                    break
                self._epochs.explain_error(error)
                raise
            if status == BATCH:
                return self._deliver(parts, self._engine.position)
            if status == END:
                self._finish()
            elif late_at is not None and time.monotonic() >= late_at:
                raise StallError(
                    f"no batch for {self._stall_timeout:g} s: the engine reads or decodes at position {self._position} of the "
                    "epoch. The next next() waits for the batch again. read_timeout_ms bounds single reads and names them"
                )
        raise StopIteration

    def _deliver(self, parts: list[_engine.Part], after: int) -> dict[str, Any]:
        try:
            before, rows = self._position, self._arrays.rows(parts)
            valid = min(after - before, rows)
            batch = self._arrays.batch(parts)
            if self._mask is not None:
                batch[self._mask] = self._arrays.mask(rows, before, valid)
        except BaseException:
            # Ctrl-C, above all: the batch was not handed out, and comes again.
            self._interrupted.append((parts, after))
            raise
        self._position, self._valid = after, valid
        return batch

    def _finish(self) -> None:
        with self._finishing:
            if not self._done:
                self._done = True
                self.close()
                if not self.is_ahead:
                    self._epochs.finish(self)

    @property
    def position(self) -> int:
        """Global position in samples after the batches handed out so far."""
        return self._position

    @property
    def valid(self) -> int:
        """Samples of the latest batch that are no repeats of earlier ones, over all processes."""
        return self._valid

    def stats(self) -> dict[str, Any]:
        """The engine's counters; those of the end once the iterator is closed."""
        counters: dict[str, Any] = self._last_stats or json.loads(self._engine.stats())
        return dict(counters)

    def close(self) -> None:
        """Stops the threads; arrays stay valid."""
        self._last_stats = self.stats()
        self._engine.close()

    def __del__(self) -> None:
        # Left in the midst of an epoch, by `break` say: the loader's state is still that of the batches handed out.
        if not self._done and not self.is_ahead:
            self._epochs.drop(self.id, self._position)

    def __reduce__(self) -> Any:
        raise NotImplementedError("an iterator under way cannot be pickled; pickle the DataLoader or its state_dict()")
