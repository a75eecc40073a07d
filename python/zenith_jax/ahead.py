"""Batches on their way to devices other than the CPU: a thread asks for them ahead, so that copies go on during a step."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Any

import jax

from zenith_jax.native import NativeIter
from zenith_jax.placement import Placement

if TYPE_CHECKING:
    from zenith_jax.epochs import Epochs

_BYTES_MAX = 16 << 20
"""Of batches that wait on the devices, where nothing else was asked for."""

_LOOK_S = 0.05
"""How often a waiting consumer looks for Ctrl-C."""


def is_worthwhile(placement: Placement) -> bool:
    """Whether batches are copied; on the CPU they are handed over as they are, and wait in the engine."""
    return any(device.platform != "cpu" for devices in placement.devices for device in devices)


class Ahead:
    """Iterates over what another iterator gives, which a thread asks ahead of time, within a bound of bytes.

    At least one batch always waits. Position and ``valid`` are those of the batches handed out.
    """

    def __init__(self, epochs: Epochs, batches: NativeIter, bytes_max: int | None) -> None:
        batches.is_ahead = True
        self.id = batches.id
        self._epochs = epochs
        self._is_done = False
        self._shared = _Shared(batches, _BYTES_MAX if bytes_max is None else bytes_max)
        self._position = batches.position
        self._valid = 0
        # A daemon: an exit in the midst of an epoch does not wait for it. `NativeIter` keeps it out of the engine then.
        threading.Thread(target=_fill, args=(self._shared,), name="zenith-device-prefetch", daemon=True).start()

    def __iter__(self) -> Ahead:
        return self

    def __next__(self) -> dict[str, Any]:
        shared = self._shared
        with shared.changed:
            while not shared.waiting and not shared.is_over:
                shared.changed.wait(_LOOK_S)
            if not shared.waiting:
                if shared.error is not None:
                    raise shared.error
                if not self._is_done:
                    self._is_done = True
                    self._epochs.finish(self)
                raise StopIteration
            batch, size, self._position, self._valid = shared.waiting.popleft()
            shared.bytes -= size
            shared.changed.notify_all()
        return batch

    @property
    def position(self) -> int:
        return self._position

    @property
    def valid(self) -> int:
        return self._valid

    def stats(self) -> dict[str, Any]:
        return self._shared.batches.stats()

    def __del__(self) -> None:
        self._shared.close()
        if not self._is_done:
            self._epochs.drop(self.id, self._position)


class _Shared:
    """What the two threads share: the thread must not keep the iterator alive that ends it."""

    def __init__(self, batches: NativeIter, bytes_max: int) -> None:
        self.batches = batches
        self.bytes_max = bytes_max
        self.changed = threading.Condition()
        self.waiting: deque[tuple[dict[str, Any], int, int, int]] = deque()
        self.bytes = 0
        self.error: BaseException | None = None
        self.is_over = False
        self.is_closed = False

    def close(self) -> None:
        with self.changed:
            self.is_closed = True
            self.waiting.clear()
            self.changed.notify_all()


def _fill(shared: _Shared) -> None:
    try:
        while not shared.is_closed:
            batch = next(shared.batches, None)
            if batch is None:
                break
            entry = (batch, _bytes_of(batch), shared.batches.position, shared.batches.valid)
            with shared.changed:
                while shared.waiting and shared.bytes + entry[1] > shared.bytes_max and not shared.is_closed:
                    shared.changed.wait()
                if not shared.is_closed:
                    shared.waiting.append(entry)
                    shared.bytes += entry[1]
                    shared.changed.notify_all()
            del batch, entry
    except BaseException as error:
        shared.error = error
    finally:
        with shared.changed:
            shared.is_over = True
            shared.changed.notify_all()


def _bytes_of(batch: dict[str, Any]) -> int:
    return sum(value.nbytes for value in batch.values() if isinstance(value, jax.Array))
