"""Which of the processes that share an epoch this one is: from arguments, a mesh, a group, or ``torch.distributed``."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch.distributed as dist

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

_log = logging.getLogger("zenith_torch")
_noticed = False


@dataclass(frozen=True)
class Ranks:
    """What was given; `resolve` looks at it when rank and world size are first needed.

    Raises:
        ValueError: more than one way was given, or only half of one.
    """

    rank: int | None = None
    world_size: int | None = None
    mesh: DeviceMesh | None = None
    process_group: Any = None

    def __post_init__(self) -> None:
        if (self.rank is None) != (self.world_size is None):
            raise ValueError("rank and world_size must be given together")
        ways = (self.rank is not None, self.mesh is not None, self.process_group is not None)
        if sum(ways) > 1:
            raise ValueError("give rank and world_size, or mesh, or process_group: only one of them")

    @property
    def is_given(self) -> bool:
        """Whether anything was given, so that nothing is taken from ``torch.distributed``."""
        return any(value is not None for value in (self.rank, self.mesh, self.process_group))

    def resolve(self) -> tuple[int, int]:
        """Rank and world size.

        Raises:
            ValueError: this process is not in the mesh or group.
        """
        if self.rank is not None and self.world_size is not None:
            return self.rank, self.world_size
        if self.mesh is not None:
            return _in_mesh(self.mesh)
        if self.process_group is not None:
            rank = dist.get_rank(self.process_group)
            if rank < 0:
                raise ValueError("process_group: this process is not a member of it, so it has no share of the data")
            return rank, dist.get_world_size(self.process_group)
        if dist.is_available() and dist.is_initialized() and accelerated_processes() is None:
            rank, world = dist.get_rank(), dist.get_world_size()
            _notice(rank, world)
            return rank, world
        return 0, 1

    @property
    def is_alone(self) -> bool:
        """Whether no other process depends on the same order, so that its seed may be this process's own draw."""
        return self.resolve()[1] == 1 and (self.is_given or (accelerated_processes() or 1) == 1)


def accelerated_processes() -> int | None:
    """How many processes Accelerate runs, where a program has made an ``Accelerator``; else ``None``.

    Its ``prepare()`` shares out the batches of a loader, and a loader that is not prepared is whole in every process. One
    that took its own share before would be cut twice: each process would see a share of a share.
    """
    state = sys.modules.get("accelerate.state")
    if state is None or not state.is_initialized():
        return None
    return int(state.PartialState().num_processes)


def _in_mesh(mesh: DeviceMesh) -> tuple[int, int]:
    """The place along the data-parallel dimensions: the one named ``dp``, else all named ``dp_...``, else the first.

    Ranks that differ in the other dimensions only (tensor, pipeline, context parallel) need the same samples.
    """
    place = mesh.get_coordinate()
    if place is None:
        raise ValueError(f"mesh: this process is not in {mesh}, so it has no share of the data")
    names = list(mesh.mesh_dim_names or ())
    parallel = ["dp"] if "dp" in names else [name for name in names if name.startswith("dp_")]
    dimensions = [names.index(name) for name in parallel] or [0]
    rank, world = 0, 1
    for dimension in dimensions:
        size = mesh.size(dimension)
        rank, world = rank * size + place[dimension], world * size
    return rank, world


def _notice(rank: int, world: int) -> None:
    global _noticed
    if rank == 0 and not _noticed:
        _log.warning(
            "rank and world size (%d processes) were taken from torch.distributed: every process gets its own share of "
            "an epoch. For tensor or pipeline parallel ranks, which need the same samples, give mesh= or process_group=.",
            world,
        )
    _noticed = True
