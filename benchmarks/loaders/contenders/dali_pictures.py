"""DALI on the CPU over the tar shards: its webdataset reader, its decoder of random crops, two threads, torch tensors."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.loaders import photographs
from benchmarks.loaders.contender import Contender, Feed
from benchmarks.loaders.data import Files
from benchmarks.loaders.pictures import RATIO, SCALE, SHORT_SIDE, SIDE, WORKS, PictureWork, peer_works

THREADS = 2
READER = "shards"
SHUFFLE_BUFFER = 1000
PADDING = 32
"""A space: labels are text of one to seven digits, and a tensor has one length."""


def index_of(shard: str) -> str:
    """DALI's index of a shard, beside it."""
    return str(Path(shard).with_suffix(".idx"))


def write_indexes(large: bool) -> Callable[[Files], None]:
    """Writes the indexes with DALI's own tool, so that opening does not have to read through the shards."""

    def prepare(files: Files) -> None:
        from wds2idx import IndexCreator

        for shard in photographs.of(files).shards(large):
            if not os.path.exists(index_of(shard)) or os.path.getmtime(index_of(shard)) < os.path.getmtime(shard):
                with IndexCreator(shard, index_of(shard) + ".part", verbose=False) as creator:
                    creator.create_index()
                os.replace(index_of(shard) + ".part", index_of(shard))

    return prepare


def build(work: PictureWork, shards: list[str]) -> Any:
    """The pipeline: encoded samples are shuffled, decoded, resized."""
    from nvidia.dali import fn, pipeline_def, types

    @pipeline_def(batch_size=work.batch_size, num_threads=THREADS, device_id=None, seed=0)  # type: ignore[untyped-decorator]
    def pipeline() -> Any:
        encoded, label = fn.readers.webdataset(
            paths=shards,
            index_paths=[index_of(shard) for shard in shards],
            ext=["jpg", "cls"],
            random_shuffle=work.random,
            initial_fill=SHUFFLE_BUFFER,
            missing_component_behavior="error",
            pad_last_batch=True,  # Else the next epoch lacks what filled this one's last batch.
            name=READER,
        )
        if work.random:
            options = {"random_area": SCALE, "random_aspect_ratio": RATIO}
            image = fn.decoders.image_random_crop(encoded, device="cpu", output_type=types.RGB, **options)
            image = fn.resize(image, size=(SIDE, SIDE), interp_type=types.INTERP_LINEAR, antialias=True)
            image = fn.flip(image, horizontal=fn.random.coin_flip(probability=0.5))
        else:
            image = fn.decoders.image(encoded, device="cpu", output_type=types.RGB)
            image = fn.resize(image, resize_shorter=SHORT_SIDE, interp_type=types.INTERP_LINEAR, antialias=True)
            # A centre between two pixels is rounded down, as by torchvision at these sizes.
            image = fn.crop(image, crop=(SIDE, SIDE), rounding="truncate")
        return image, fn.pad(label, fill_value=PADDING)

    return pipeline()


@dataclasses.dataclass
class DaliFeed:
    """DALI's iterator for torch, which copies a finished batch into tensors; it goes on from epoch to epoch."""

    work: PictureWork
    shards: list[str]

    def __post_init__(self) -> None:
        from nvidia.dali.plugin.base_iterator import LastBatchPolicy
        from nvidia.dali.plugin.pytorch import DALIGenericIterator

        self.batches = DALIGenericIterator(
            build(self.work, self.shards),
            ["image", "label"],
            reader_name=READER,
            last_batch_policy=LastBatchPolicy.PARTIAL,
            auto_reset=True,
        )

    def epoch(self, epoch: int) -> Iterator[tuple[Any, Any]]:
        import torch

        for (batch,) in self.batches:
            labels = [int(bytes(digits)) for digits in batch["label"].numpy()]
            yield batch["image"], torch.tensor(labels)


def open_dali(work: PictureWork) -> Callable[[Files], Feed]:
    """Opens the shards."""
    return lambda files: DaliFeed(work, photographs.of(files).shards(work.large))


CONTENDERS = [
    Contender(
        name=f"dali-{work}-t2",
        title="DALI on the CPU, 2 threads",
        work=work,
        order="shuffled" if WORKS[work].random else "file",
        open=open_dali(entry),
        path=None,
        requires=("torch", "nvidia.dali.plugin.pytorch", "wds2idx"),
        prepare=write_indexes(entry.large),
    )
    for work, entry in peer_works().items()
]
