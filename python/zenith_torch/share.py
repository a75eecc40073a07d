"""The end of an epoch that Accelerate shares out: the samples that are not enough for full batches in every process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    import zenith
    from zenith import _engine

    from zenith_torch.batching import Share


class Tail:
    """The last batch of this process, if it has one, cut as Accelerate's ``BatchSamplerShard`` cuts it.

    Natively process *r* of *W* takes every *W*-th position of the plan, so that it reads its own blocks only, where Accelerate
    hands out whole batches in turn. Over all processes each step has the same samples. At the end the place matters as well:
    ``gather_for_metrics`` keeps the first samples of what it gathers, and counts on the repeated ones being last. So these few
    samples are asked for by index, in Accelerate's own places.

    Args:
        view: what the engine reads.
        engine: knows the order.
        share: which process this is.
        batch_size: samples of one process's batch.
        epoch: the epoch.
        position: where the iterator begins, in samples of all processes.
    """

    def __init__(
        self, view: zenith.Dataset, engine: _engine.Loader, share: Share, batch_size: int, epoch: int, position: int
    ) -> None:
        self.end = len(view)
        left = (self.end - position) % (batch_size * share.world_size)
        first = self.end - left + share.rank * batch_size
        count = batch_size if share.is_even else min(batch_size, max(0, self.end - first))
        self._count = count if left else 0
        self._view, self._order, self._epoch, self._first = view, engine, epoch, first

    def take(self) -> list[torch.Tensor] | None:
        """The parts of the batch as the engine hands them out, the first time; ``None`` where there is none."""
        count, self._count = self._count, 0
        if count == 0:
            return None
        indices = self._order.indices(self._epoch, self._first, 1, count)
        parts: list[torch.Tensor] = []
        columns = self._view._engine.at_epoch(self._epoch).get(indices)
        for info, data in zip(self._view.schema, columns, strict=True):
            if isinstance(data, tuple):
                offsets, content = data
                parts += [_tensor(offsets, torch.int64), _tensor(content, torch.uint8)]
                continue
            assert info.dtype is not None
            assert info.shape is not None
            parts.append(_tensor(data, getattr(torch, info.dtype)).view(count, *info.shape))
        return parts


def _tensor(content: bytearray, dtype: torch.dtype) -> torch.Tensor:
    """The bytes as a tensor; torch refuses to look at none."""
    return torch.frombuffer(content, dtype=dtype) if content else torch.empty(0, dtype=dtype)
