"""Grain over a folder of JPEG files, decoded by libjpeg-turbo and resized by OpenCV, in two read threads or two worker processes.

Grain decodes nothing itself. These functions let go of the interpreter's lock, so its read threads are enough for them, and
spare the way from process to process; worker processes are what its documents advise for Python code.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from benchmarks.loaders import photographs
from benchmarks.loaders.contender import Contender, Feed
from benchmarks.loaders.data import Files
from benchmarks.loaders.pictures import WORKS, PictureWork, peer_works
from benchmarks.loaders.turbo_pictures import central_crop, random_crop

WORKERS = 2
PICTURES_AHEAD = 256


@dataclasses.dataclass(frozen=True)
class Source:
    """(path, label) by index."""

    paths: list[str]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: Any) -> tuple[str, int]:
        return self.paths[index], int(index)


def make_random(sample: tuple[str, int], generator: np.random.Generator) -> tuple[np.ndarray, int]:
    """A random crop and its label."""
    return random_crop(sample[0], generator), sample[1]


@dataclasses.dataclass(frozen=True)
class MakeCentral:
    """A central crop and its label."""

    large: bool

    def __call__(self, sample: tuple[str, int]) -> tuple[np.ndarray, int]:
        return central_crop(sample[0], self.large), sample[1]


def stack(samples: Sequence[tuple[np.ndarray, int]]) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [b, 224, 224, 3] and i64 [b]."""
    return np.stack([image for image, _ in samples]), np.array([label for _, label in samples])


@dataclasses.dataclass
class GrainFeed:
    """A new iterator per epoch; the seed says how it is shuffled and cropped."""

    work: PictureWork
    paths: list[str]
    processes: bool

    def epoch(self, epoch: int) -> Iterator[tuple[Any, Any]]:
        import grain
        import torch

        dataset = grain.MapDataset.source(Source(self.paths)).seed(epoch)
        dataset = (
            dataset.shuffle().random_map(make_random) if self.work.random else dataset.map(MakeCentral(self.work.large))
        )
        if self.processes:
            lazy = dataset.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=self.work.batch_size))
            lazy = lazy.batch(self.work.batch_size, batch_fn=stack)
            lazy = lazy.mp_prefetch(grain.MultiprocessingOptions(num_workers=WORKERS, per_worker_buffer_size=2))
        else:
            options = grain.ReadOptions(num_threads=WORKERS, prefetch_buffer_size=PICTURES_AHEAD)
            lazy = dataset.to_iter_dataset(options).batch(self.work.batch_size, batch_fn=stack)
        for x, y in lazy:
            yield torch.from_numpy(x), torch.from_numpy(y)


def open_grain(work: PictureWork, processes: bool) -> Callable[[Files], Feed]:
    """Opens the folder."""

    def open_feed(files: Files) -> Feed:
        import cv2

        cv2.setNumThreads(1)
        return GrainFeed(work, photographs.of(files).images(work.large), processes)

    return open_feed


CONTENDERS = [
    Contender(
        name=f"grain-{work}-{'w2' if processes else 't2'}",
        title=f"Grain, 2 {'worker processes' if processes else 'read threads'}, libjpeg-turbo + OpenCV",
        work=work,
        order="shuffled" if WORKS[work].random else "by worker" if processes else "file",
        open=open_grain(entry, processes),
        path=None,
        requires=("torch", "grain", "simplejpeg", "cv2"),
        # Its processes start anew with every epoch, which short epochs show.
        skipped_by_default=processes,
    )
    for work, entry in peer_works().items()
    for processes in (False, True)
]
