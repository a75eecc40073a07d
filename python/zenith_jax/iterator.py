"""What ``iter(loader)`` returns: one epoch, or the rest of one, with the interface of Grain's iterators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zenith import exits

if TYPE_CHECKING:
    from zenith_jax.loader import DataLoader


class LoaderIterator:
    """Hands out the batches of an epoch. ``get_state()`` and ``set_state()`` are those of Grain's iterators, and the states those
    of the loader."""

    def __init__(self, loader: DataLoader) -> None:
        self._loader = loader
        self._begin()

    def _begin(self) -> None:
        with exits.aside():
            self._batches: Any = self._loader._epochs.begin()
            self._began = self._loader.state_dict()
        self._ended: dict[str, Any] | None = None

    def __iter__(self) -> LoaderIterator:
        return self

    def __next__(self) -> Any:
        try:
            return next(self._batches)
        except StopIteration:
            if self._ended is None:
                self._ended = self._loader.state_dict()
            raise

    def get_state(self) -> dict[str, Any]:
        """Where it stands, as JSON-able values: the state of the loader, of this iterator."""
        return dict(self._ended) if self._ended is not None else {**self._began, "position": self._batches.position}

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes on where the state was taken, in whichever epoch that was.

        Raises:
            zenith.StateError: the state is damaged, newer than this version, or of another dataset.
        """
        self._loader.load_state_dict(state)
        self._begin()
