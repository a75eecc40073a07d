"""SPDL's pipeline of threads over a folder of JPEG files, with libjpeg-turbo and OpenCV as its functions.

Its own decoder is FFmpeg's, which must be installed in the system; libjpeg-turbo decodes JPEG faster.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks.loaders import photographs
from benchmarks.loaders.contender import Contender, Feed
from benchmarks.loaders.contenders.grain_pictures import stack
from benchmarks.loaders.data import Files
from benchmarks.loaders.pictures import WORKS, PictureWork, peer_works
from benchmarks.loaders.turbo_pictures import central_crop, of_thread, random_crop

DECODERS = 2
BATCHES_AHEAD = 3


@dataclasses.dataclass
class SpdlFeed:
    """A pipeline per epoch: two threads decode, a third makes batches."""

    work: PictureWork
    paths: list[str]

    def epoch(self, epoch: int) -> Iterator[tuple[Any, Any]]:
        import torch
        from spdl.pipeline import PipelineBuilder

        count = len(self.paths)
        order = np.random.default_rng(epoch).permutation(count) if self.work.random else np.arange(count)
        pipeline = (
            PipelineBuilder()
            .add_source(order.tolist())
            .pipe(self.make, concurrency=DECODERS, output_order="completion" if self.work.random else "input")
            .aggregate(self.work.batch_size)
            .pipe(stack)
            .add_sink(BATCHES_AHEAD)
            .build(num_threads=DECODERS + 1, max_failures=0)
        )
        with pipeline.auto_stop():
            for x, y in pipeline.get_iterator():
                yield torch.from_numpy(x), torch.from_numpy(y)

    def make(self, label: int) -> tuple[np.ndarray, int]:
        """One sample."""
        path = self.paths[label]
        return (random_crop(path, of_thread()) if self.work.random else central_crop(path, self.work.large)), label


def open_spdl(work: PictureWork) -> Callable[[Files], Feed]:
    """Opens the folder."""

    def open_feed(files: Files) -> Feed:
        import cv2

        cv2.setNumThreads(1)
        return SpdlFeed(work, photographs.of(files).images(work.large))

    return open_feed


CONTENDERS = [
    Contender(
        name=f"spdl-{work}-t2",
        title="SPDL, 2 decode threads, libjpeg-turbo + OpenCV",
        work=work,
        order="shuffled" if WORKS[work].random else "file",
        open=open_spdl(entry),
        path=None,
        requires=("torch", "spdl.pipeline", "simplejpeg", "cv2"),
    )
    for work, entry in peer_works().items()
]
