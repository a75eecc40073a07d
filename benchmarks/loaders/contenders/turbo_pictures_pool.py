"""The loop that an expert writes by hand for pictures: two threads, libjpeg-turbo and OpenCV, straight into the batch.

And the limit: libjpeg-turbo's decoding alone, of whole pictures in two threads. Nothing is cropped, resized or put in a batch.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.loaders import photographs
from benchmarks.loaders.contender import Contender, Feed
from benchmarks.loaders.data import Files
from benchmarks.loaders.pictures import SIDE, WORKS, PictureWork, peer_works
from benchmarks.loaders.turbo_pictures import central_crop, decode, of_thread, random_crop

THREADS = 2
BATCHES_AHEAD = 4
PARTS = 4
"""A batch is cut into so many tasks, so that both threads work on the oldest batch."""


@dataclasses.dataclass
class Pool:
    """Batches by two threads; `make` fills a part of one: (paths' indices, place in the batch)."""

    work: PictureWork
    paths: list[str]
    limit: bool

    def __post_init__(self) -> None:
        import cv2

        cv2.setNumThreads(1)  # The threads are ours: OpenCV's would fight with them.
        self.threads = ThreadPoolExecutor(THREADS)

    def epoch(self, epoch: int) -> Iterator[tuple[Any, Any]]:
        import torch

        order = np.random.default_rng(epoch).permutation(len(self.paths)) if self.work.random else None
        labels = np.arange(len(self.paths)) if order is None else order
        starts = iter(range(0, len(labels), self.work.batch_size))
        waiting: collections.deque[tuple[Any, np.ndarray, list[Future[None]]]] = collections.deque()
        while True:
            while len(waiting) < BATCHES_AHEAD and (start := next(starts, None)) is not None:
                waiting.append(self.begin(labels[start : start + self.work.batch_size]))
            if not waiting:
                return
            x, y, parts = waiting.popleft()
            for part in parts:
                part.result()
            yield (x if self.limit else torch.from_numpy(x)), torch.from_numpy(y)

    def begin(self, labels: np.ndarray) -> tuple[Any, np.ndarray, list[Future[None]]]:
        """A batch, and the tasks that fill it."""
        x: Any = [None] * len(labels) if self.limit else np.empty((len(labels), SIDE, SIDE, 3), np.uint8)
        places = np.array_split(np.arange(len(labels)), PARTS)
        return x, labels.copy(), [self.threads.submit(self.fill, x, labels, part) for part in places]

    def fill(self, x: Any, labels: np.ndarray, places: np.ndarray) -> None:
        """Makes the pictures of `places`."""
        for place in places:
            path = self.paths[labels[place]]
            if self.limit:
                # The size is all that is kept of a picture: the memory of whole batches of them is nobody's question.
                x[place] = decode(Path(path).read_bytes()).shape
            elif self.work.random:
                x[place] = random_crop(path, of_thread())
            else:
                x[place] = central_crop(path, self.work.large)


def open_pool(work: PictureWork, limit: bool) -> Callable[[Files], Feed]:
    """Opens the loop."""
    return lambda files: Pool(work, photographs.of(files).images(work.large), limit)


CONTENDERS = [
    Contender(
        name=f"turbo-{'decode' if limit else 'opencv'}-{work}-t2",
        title=f"libjpeg-turbo{': whole pictures decoded, nothing else' if limit else ' + OpenCV by hand'}, 2 threads",
        work=work,
        order="shuffled" if WORKS[work].random else "file",
        open=open_pool(entry, limit),
        path=None,
        requires=("torch", "simplejpeg", "cv2"),
        limit=limit,
    )
    for work, entry in peer_works().items()
    for limit in (False, True)
]
