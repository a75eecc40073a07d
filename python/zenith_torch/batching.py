"""The batch samplers that libraries put around a loader's own, taken apart so that the engine can stand in for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch.utils.data import BatchSampler


@dataclass(frozen=True)
class Share:
    """Which of the whole batches Accelerate leaves to this process (its ``BatchSamplerShard``)."""

    rank: int
    world_size: int
    splits: bool
    """Every batch is cut into one piece for each process; else each process takes whole batches in turn."""
    is_even: bool
    """The last batches are filled up from the beginning of the epoch, so that all processes have full ones."""


@dataclass(frozen=True)
class Batches:
    """What a batch sampler comes down to."""

    sampler: Any
    """Gives the indices; ``None`` for the order of the loader itself."""
    batch_size: int | None = None
    drop_last: bool = False
    share: Share | None = None
    skipped: int = 0
    """Batches of each process that are passed over at the beginning of an epoch."""
    recorder: Any = None
    """Lightning's list of the indices of each batch, for the writers of predictions."""

    @property
    def rank_batch_size(self) -> int | None:
        """Samples of a batch that one process gets."""
        if self.batch_size is None or self.share is None or not self.share.splits:
            return self.batch_size
        return self.batch_size // self.share.world_size


def taken_apart(batch_sampler: Any) -> Batches | str:
    """What ``batch_sampler`` comes down to, or why nobody but itself can tell its batches."""
    share: Share | None = None
    skipped, recorder, part = 0, None, batch_sampler
    if _is(part, "lightning.pytorch.overrides.distributed", "_IndexBatchSamplerWrapper") or _is(
        part, "pytorch_lightning.overrides.distributed", "_IndexBatchSamplerWrapper"
    ):
        recorder, part = part, part._batch_sampler
    while type(part) is not BatchSampler:
        if _is(part, "accelerate.data_loader", "SkipBatchSampler") and share is None:
            skipped += part.skip_batches
        elif _is(part, "accelerate.data_loader", "BatchSamplerShard") and share is None:
            share = Share(part.process_index, part.num_processes, part.split_batches, part.even_batches)
        else:
            return f"batch_sampler={type(part).__name__} makes its own batches: samples are asked for one by one"
        part = part.batch_sampler
    return Batches(part.sampler, part.batch_size, part.drop_last, share, skipped, recorder)


def innermost(batch_sampler: Any) -> Any:
    """The batch sampler around the sampler: where a loader that libraries rebuild finds what the first one left."""
    part = batch_sampler
    for _ in range(_DEPTH_MAX):
        inner = getattr(part, "_batch_sampler", None) or getattr(part, "batch_sampler", None)
        if inner is None:
            break
        part = inner
    return part


_DEPTH_MAX = 8
"""How many batch samplers may wrap each other before the search ends."""


def _is(thing: Any, module: str, name: str) -> bool:
    """Whether it is exactly of that class, without importing the library; a subclass may do something else."""
    kind = type(thing)
    return kind.__module__ == module and kind.__qualname__ == name
