"""WebDataset over the tar shards with 2 worker processes, PIL and torchvision's transforms: its own documented pipeline."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks.loaders import photographs
from benchmarks.loaders.contender import Contender, Feed
from benchmarks.loaders.contenders.torch_pictures import collate_arrays, transform_of
from benchmarks.loaders.data import Files
from benchmarks.loaders.pictures import SHORT_SIDE, WORKS, PictureWork, peer_works

SHUFFLE_BUFFER = 1000


@dataclasses.dataclass
class Decode:
    """The bytes of a sample's members → (uint8 numpy [224, 224, 3], label)."""

    work: PictureWork
    transform: Any

    def __call__(self, sample: tuple[bytes, bytes]) -> tuple[np.ndarray, int]:
        import io

        from PIL import Image

        encoded, label = sample
        image = Image.open(io.BytesIO(encoded))
        if self.work.large:
            image.draft("RGB", (SHORT_SIDE, SHORT_SIDE))
        return np.asarray(self.transform(image.convert("RGB"))), int(label)


@dataclasses.dataclass
class WebFeed:
    """A `WebLoader` whose workers persist; each takes every second shard."""

    loader: Any

    def epoch(self, epoch: int) -> Iterator[Any]:
        return iter(self.loader)


def open_shards(work: PictureWork) -> Callable[[Files], Feed]:
    """Opens the shards; encoded samples are shuffled before they are decoded, so that the buffer stays small."""

    def open_feed(files: Files) -> Feed:
        import webdataset as wds

        shards = photographs.of(files).shards(work.large)
        dataset = wds.WebDataset(shards, shardshuffle=len(shards) if work.random else False, empty_check=False)
        if work.random:
            dataset = dataset.shuffle(SHUFFLE_BUFFER)
        dataset = dataset.to_tuple("jpg", "cls").map(Decode(work, transform_of(work)))
        dataset = dataset.batched(work.batch_size, collation_fn=collate_arrays)
        return WebFeed(wds.WebLoader(dataset, batch_size=None, num_workers=2, persistent_workers=True))

    return open_feed


CONTENDERS = [
    Contender(
        name=f"webdataset-{work}-w2",
        title="WebDataset, 2 workers, PIL",
        work=work,
        # Two workers take the shards by turns, so even unshuffled batches are not in the order of the files.
        order="shuffled" if WORKS[work].random else "by worker",
        open=open_shards(entry),
        path=None,
        requires=("torch", "torchvision.transforms.v2", "PIL", "webdataset"),
    )
    for work, entry in peer_works().items()
]
