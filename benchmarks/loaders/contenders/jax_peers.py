"""What JAX users feed tables with: Grain, tf.data, torch's loader by DLPack, and an expert's own loop.

Each reads whole row groups, which is the fastest that its library allows (one row at a time is some hundred times slower), and
permutes the rows of one group, as the hand-written loop of the torch rows does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from benchmarks.loaders.contender import ROW_BATCH, Contender, Feed
from benchmarks.loaders.contenders.torch_iterable import open_iterable
from benchmarks.loaders.data import Files
from benchmarks.loaders.jax_tables import DEVICES, Waiting, environment, whole_batches


class RowGroups:
    """A random-access source of row groups as (x f32 [n, 28], y i32 [n]); Grain pickles it into its workers."""

    def __init__(self, path: str, threads: bool) -> None:
        self.path, self.threads = path, threads
        self.file: Any = None

    def __getstate__(self) -> tuple[str, bool]:
        return self.path, self.threads

    def __setstate__(self, state: tuple[str, bool]) -> None:
        self.__init__(*state)  # type: ignore[misc]

    def __len__(self) -> int:
        return int(self.open().num_row_groups)

    def __getitem__(self, group: Any) -> tuple[np.ndarray, np.ndarray]:
        from benchmarks.loaders.rows import to_rows

        x, y = to_rows(self.open().read_row_group(int(group), use_threads=self.threads))
        return x, y.astype(np.int32)

    def open(self) -> Any:
        """The file, opened once a process."""
        import pyarrow.parquet as pq

        if self.file is None:
            self.file = pq.ParquetFile(self.path)
        return self.file


@dataclasses.dataclass
class HandWritten:
    """A thread reads the next row group with all of pyarrow's threads while this one is cut into batches."""

    source: RowGroups

    def epoch(self, epoch: int) -> Iterator[Any]:
        random = np.random.default_rng(epoch)
        return whole_batches(self.blocks(random), random, ROW_BATCH)

    def blocks(self, random: np.random.Generator) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        groups = random.permutation(len(self.source))
        with ThreadPoolExecutor(1) as pool:
            ahead = pool.submit(self.source.__getitem__, groups[0])
            for group in groups[1:]:
                block, ahead = ahead, pool.submit(self.source.__getitem__, group)
                yield block.result()
            yield ahead.result()


@dataclasses.dataclass
class GrainFeed:
    """`grain.MapDataset` over the row groups, shuffled; `workers` processes, or as many read threads."""

    source: RowGroups
    workers: int
    threads: int

    def epoch(self, epoch: int) -> Iterator[Any]:
        import grain

        options = grain.ReadOptions(num_threads=self.threads, prefetch_buffer_size=4 if self.threads else 0)
        dataset: Any = grain.MapDataset.source(self.source).shuffle(seed=epoch).to_iter_dataset(options)
        if self.workers:
            from absl import flags

            flags.FLAGS.mark_as_parsed()  # Grain's workers look at flags, which a program without absl.app never parses.
            dataset = dataset.mp_prefetch(grain.MultiprocessingOptions(num_workers=self.workers))
        return whole_batches(iter(dataset), np.random.default_rng(epoch), ROW_BATCH)


@dataclasses.dataclass
class TensorFlowFeed:
    """`tf.data`: row groups in shuffled order, read by two parallel calls of pyarrow."""

    source: RowGroups

    def epoch(self, epoch: int) -> Iterator[Any]:
        import tensorflow as tf

        def read(group: Any) -> Any:
            return tf.numpy_function(self.source.__getitem__, [group], (tf.float32, tf.int32))

        groups = tf.data.Dataset.range(len(self.source)).shuffle(len(self.source), seed=epoch)
        blocks = groups.map(read, num_parallel_calls=2, deterministic=False).prefetch(2)
        return whole_batches(blocks.as_numpy_iterator(), np.random.default_rng(epoch), ROW_BATCH)


@dataclasses.dataclass
class TorchFeed:
    """torch's loader over row groups; tensors are taken over by DLPack, or laid out over the devices where there are several."""

    loader: Feed

    def epoch(self, epoch: int) -> Iterator[Any]:
        import jax
        import torch

        for x, y in self.loader.epoch(epoch):
            if len(y) == ROW_BATCH:
                y = y.to(torch.int32)
                yield (
                    (jax.dlpack.from_dlpack(x), jax.dlpack.from_dlpack(y))
                    if jax.device_count() == 1
                    else (
                        x.numpy(),
                        y.numpy(),
                    )
                )


def peers(work: str) -> Iterator[tuple[str, str, tuple[str, ...], bool, Callable[[Files], Feed]]]:
    """Name, title, modules beside JAX, whether batches have to be put on the devices, and how it is opened."""
    by_hand = "hand-written pyarrow → numpy → device_put, read-ahead thread"
    yield "hand-written", by_hand, ("pyarrow",), True, lambda files: HandWritten(RowGroups(files.parquet, True))
    grain, tensorflow = ("grain", "pyarrow"), ("tensorflow", "pyarrow")
    yield (
        "grain-t2",
        "Grain, 2 read threads",
        grain,
        True,
        lambda files: GrainFeed(RowGroups(files.parquet, False), 0, 2),
    )
    yield "grain-w2", "Grain, 2 processes", grain, True, lambda files: GrainFeed(RowGroups(files.parquet, False), 2, 0)
    yield (
        "tensorflow-t2",
        "tf.data, 2 parallel reads, device_put",
        tensorflow,
        True,
        lambda files: TensorFlowFeed(RowGroups(files.parquet, False)),
    )
    iterable = open_iterable(lambda files: files.parquet, True, 2)
    yield (
        "torch-w2",
        "torch, 2 workers, DLPack",
        ("torch", "pyarrow"),
        DEVICES[work] > 1,
        lambda files: TorchFeed(iterable(files)),
    )


def waiting(open_feed: Callable[[Files], Feed], put: bool) -> Callable[[Files], Feed]:
    """The feed, whose batches are there when they are handed out."""
    return lambda files: Waiting(open_feed(files), put)


CONTENDERS = [
    Contender(
        name=f"{name}-{work}",
        title=title,
        work=work,
        order="shuffled",
        open=waiting(open_feed, put),
        path=lambda files: files.parquet,
        requires=("jax", *modules),
        environment=environment(work),
    )
    for work in DEVICES
    for name, title, modules, put, open_feed in peers(work)
]
