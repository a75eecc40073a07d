"""Zenith over the tar shards: the documented lines, with torchvision's names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.loaders import photographs
from benchmarks.loaders.contender import Contender, Feed
from benchmarks.loaders.contenders.zenith_rows import ZenithFeed
from benchmarks.loaders.data import Files
from benchmarks.loaders.pictures import MEAN, RATIO, SCALE, SHORT_SIDE, SIDE, STD, WORKS, PictureWork


def transform_of(work: PictureWork) -> Any:
    """The work's transforms; pictures of 12 megapixels are decoded at a scale that is large enough."""
    from zenith import transforms

    steps: list[Any]
    if work.random:
        steps = [transforms.RandomResizedCrop(SIDE, scale=SCALE, ratio=RATIO), transforms.RandomHorizontalFlip()]
    else:
        steps = [transforms.Resize(SHORT_SIDE), transforms.CenterCrop(SIDE)]
    if work.dtype == "uint8":
        return transforms.Compose(steps, decode="fast" if work.large else "exact", layout="NHWC")
    steps += [transforms.ToDtype(work.dtype, scale=True), transforms.Normalize(MEAN, STD)]
    return transforms.Compose(steps, layout="NCHW")


def open_shards(work: PictureWork, num_workers: int, entropy_index: bool = False) -> Callable[[Files], Feed]:
    """Opens the shards with `num_workers` decode threads; an index is built at the first opening, which is not measured."""

    def open_feed(files: Files) -> Feed:
        import zenith
        from zenith_torch import DataLoader

        shards = photographs.of(files).shards(work.large)
        dataset = zenith.WebDataset(shards, fields={"jpg": transform_of(work), "cls": int}, entropy_index=entropy_index)
        return ZenithFeed(
            DataLoader(
                dataset,
                batch_size=work.batch_size,
                shuffle=work.random,
                num_workers=num_workers,
                seed=0,
                output="tuple",
            )
        )

    return open_feed


CONTENDERS = [
    Contender(
        name=f"zenith-{work}-w{num_workers}",
        title=f"Zenith, {num_workers} thread{'s' if num_workers > 1 else ''}",
        work=work,
        order="shuffled" if entry.random else "file",
        open=open_shards(entry, num_workers),
        path=None,
        requires=("torch", "zenith", "zenith_torch", "zenith.transforms"),
    )
    for work, entry in WORKS.items()
    for num_workers in (1, 2)
    if num_workers == 2 or work == "images-crop"
]

CONTENDERS += [
    Contender(
        name=f"zenith-{work}-indexed-w2",
        title="Zenith, 2 threads, entropy_index=True",
        work=work,
        order="shuffled" if WORKS[work].random else "file",
        open=open_shards(WORKS[work], 2, entropy_index=True),
        path=None,
        requires=("torch", "zenith", "zenith_torch", "zenith.transforms"),
    )
    for work in ("images-crop", "images-12mp")
]
