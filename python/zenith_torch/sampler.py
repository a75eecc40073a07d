"""The plan as a torch sampler: what libraries find, pass on and rebuild loaders with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import zenith
from torch.utils.data import DistributedSampler
from zenith import _engine

from zenith_torch import randomness
from zenith_torch.ranks import Ranks
from zenith_torch.views import native_view

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

_CHUNK = 65536


class PlanSampler(DistributedSampler[int]):
    """Yields the sample numbers of Zenith's order for one rank.

    A `zenith_torch.DataLoader` turns it back into the plan and reads natively; any other loader gets the same samples
    in the same order one by one. Rank and world size are resolved when first needed.

    Args:
        dataset: a `zenith.Dataset`, or torch's ``Subset`` or ``ConcatDataset`` of such.
        num_replicas, rank: as in ``DistributedSampler``; from ``torch.distributed`` by default, else 1 and 0.
        mesh, process_group: in their place, see `zenith_torch.DataLoader`.
        shuffle: Zenith's block-aware shuffle; file order otherwise.
        seed: of the order; ``None`` means one draw from torch's generator (one rank) or 0 (several).
        drop_last: drop the samples that do not fill an equal share of every rank (else the first ones are repeated).
        lanes, shuffle_bytes: see `zenith_torch.DataLoader`.
        view: what the engine reads for ``dataset``; found by itself.
    """

    def __init__(
        self,
        dataset: Any,
        num_replicas: int | None = None,
        rank: int | None = None,
        shuffle: bool = True,
        seed: int | None = None,
        drop_last: bool = False,
        *,
        lanes: int | None = None,
        shuffle_bytes: int | None = None,
        mesh: DeviceMesh | None = None,
        process_group: Any = None,
        view: zenith.Dataset | None = None,
    ) -> None:
        self.dataset: Any = dataset
        found = native_view(dataset) if view is None else view
        if isinstance(found, str):
            raise TypeError(f"a PlanSampler needs a Zenith dataset: {found}")
        self.view = found
        self.shuffle = shuffle
        self.drop_last = drop_last
        self.lanes = lanes
        self.shuffle_bytes = shuffle_bytes
        self.epoch = 0
        self.epoch_was_set = False
        self._ranks = Ranks(rank, num_replicas, mesh, process_group)
        self._seed = seed
        self._drawn: int | None = None

    @property
    def num_replicas(self) -> int:  # type: ignore[override]
        return self._ranks.resolve()[1]

    @property
    def rank(self) -> int:  # type: ignore[override]
        return self._ranks.resolve()[0]

    @property
    def seed(self) -> int:  # type: ignore[override]
        """Seed of the order; drawn at the first look if none was given, and 0 where other processes need the same."""
        if self._seed is None and self.shuffle and self._ranks.is_alone:
            if self._drawn is None:
                self._drawn = randomness.draw()
            return self._drawn
        return self._seed or 0

    @property
    def known_seed(self) -> int | None:
        """The seed, unless it would have to be drawn now."""
        draws = self._seed is None and self._drawn is None and self.shuffle and self._ranks.is_alone
        return None if draws else self.seed

    def use_seed(self, seed: int) -> None:
        """Takes up the order of a state."""
        self._seed = seed

    @property
    def num_samples(self) -> int:  # type: ignore[override]
        size, world = len(self.dataset), self.num_replicas
        return size // world if self.drop_last else -(-size // world)

    @property
    def total_size(self) -> int:  # type: ignore[override]
        return self.num_samples * self.num_replicas

    def set_epoch(self, epoch: int) -> None:
        """Moves to ``epoch``; from then on it no longer advances by itself."""
        self.epoch = epoch
        self.epoch_was_set = True

    def options(self) -> dict[str, Any]:
        """What the engine needs to know of the order."""
        rank, world = self._ranks.resolve()
        options: dict[str, Any] = {
            "shuffle": self.shuffle,
            "seed": self.seed,
            "lanes": self.lanes,
            "rank": rank,
            "world_size": world,
        }
        if self.shuffle_bytes is not None:
            options["shuffle_bytes"] = self.shuffle_bytes
        return options

    def __len__(self) -> int:
        return self.num_samples

    def __iter__(self) -> Iterator[int]:
        engine = _engine.Loader(self.view._engine, json.dumps(self.options()))
        rank, world = self._ranks.resolve()
        epoch, left, start = self.epoch, self.num_samples, rank
        while left > 0:
            indices = engine.indices(epoch, start, world, min(left, _CHUNK))
            yield from indices
            start += world * len(indices)
            left -= len(indices)
