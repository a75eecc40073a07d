"""pyarrow over the Arrow IPC file: batches of rows as tensors, and the bare read as a limit.

The bare read uses `OSFile`, not a memory map: over a map it would return at once, having read nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from benchmarks.loaders.contender import ROW_BATCH, Contender


@dataclasses.dataclass
class IpcRead:
    """Every record batch, read into memory."""

    path: str

    def epoch(self, epoch: int) -> Iterator[Any]:
        import pyarrow as pa

        with pa.OSFile(self.path, "rb") as source:
            reader = pa.ipc.open_file(source)
            for index in range(reader.num_record_batches):
                yield reader.get_batch(index)


@dataclasses.dataclass
class IpcTensors:
    """Batches (x, y) in file order from a memory map; or shuffled: record batches in random order, rows permuted within."""

    path: str
    shuffle: bool

    def epoch(self, epoch: int) -> Iterator[tuple[Any, Any]]:
        import numpy as np
        import pyarrow as pa
        import torch

        from benchmarks.loaders.contenders.torch_iterable import take
        from benchmarks.loaders.rows import to_rows

        with pa.memory_map(self.path) as source:
            reader = pa.ipc.open_file(source)
            indices = np.arange(reader.num_record_batches)
            if self.shuffle:
                np.random.default_rng(epoch).shuffle(indices)
            generator = torch.Generator().manual_seed(epoch)
            rest: tuple[Any, Any] | None = None
            for index in indices:
                x, labels = to_rows(reader.get_batch(int(index)))
                x, y = torch.from_numpy(x), torch.from_numpy(labels.copy())
                if rest is not None:
                    x, y = torch.cat([rest[0], x]), torch.cat([rest[1], y])
                order = torch.randperm(len(y), generator=generator) if self.shuffle else None
                whole = len(y) - len(y) % ROW_BATCH
                for start in range(0, whole, ROW_BATCH):
                    yield take(x, y, order, start, start + ROW_BATCH)
                rest = take(x, y, order, whole, len(y))
            if rest is not None and len(rest[1]):
                yield rest


CONTENDERS = [
    *(
        Contender(
            name=f"pyarrow-ipc-{order}",
            title="pyarrow IPC, memory map, batches as tensors",
            work="arrow-ipc",
            order=order,
            open=lambda files, shuffle=order == "shuffled": IpcTensors(files.ipc, shuffle),  # type: ignore[misc]
            path=lambda files: files.ipc,
        )
        for order in ("shuffled", "file")
    ),
    Contender(
        name="pyarrow-ipc-read",
        title="pyarrow IPC, bare read (limit)",
        work="arrow-ipc",
        order="file",
        open=lambda files: IpcRead(files.ipc),
        path=lambda files: files.ipc,
        requires=("pyarrow",),
        limit=True,
    ),
]
