"""torch's DataLoader over a folder of JPEG files, with PIL and torchvision's transforms, or decoded by torchvision into tensors.

uint8 leaves the workers: the batch is made of bytes, and is normalised where the model is. Pictures of 12 megapixels are opened
by PIL's `draft`, which decodes at the least of libjpeg's scales that is large enough; torchvision's decoder has no such thing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.loaders import photographs
from benchmarks.loaders.contender import Contender, Feed
from benchmarks.loaders.contenders.torch_iterable import TorchFeed
from benchmarks.loaders.data import Files
from benchmarks.loaders.pictures import RATIO, SCALE, SHORT_SIDE, SIDE, WORKS, PictureWork, peer_works


def transform_of(work: PictureWork) -> Any:
    """torchvision's transforms, for PIL images and tensors alike."""
    from torchvision.transforms import v2

    if work.random:
        crop = v2.RandomResizedCrop(SIDE, SCALE, RATIO, antialias=True)
        return v2.Compose([crop, v2.RandomHorizontalFlip()])
    return v2.Compose([v2.Resize(SHORT_SIDE, antialias=True), v2.CenterCrop(SIDE)])


class PilFolder:
    """Samples (uint8 numpy [224, 224, 3], label)."""

    def __init__(self, paths: list[str], work: PictureWork) -> None:
        self.paths, self.large, self.transform = paths, work.large, transform_of(work)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        from PIL import Image

        with Image.open(self.paths[index]) as image:
            if self.large:
                image.draft("RGB", (SHORT_SIDE, SHORT_SIDE))
            return np.asarray(self.transform(image.convert("RGB"))), index


class TensorFolder:
    """Samples (uint8 tensor [3, 224, 224], label)."""

    def __init__(self, paths: list[str], work: PictureWork) -> None:
        self.paths, self.transform = paths, transform_of(work)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        from torchvision.io import ImageReadMode, decode_jpeg, read_file

        return self.transform(decode_jpeg(read_file(self.paths[index]), mode=ImageReadMode.RGB)), index


def collate_arrays(samples: list[tuple[np.ndarray, int]]) -> tuple[Any, Any]:
    """uint8 [b, 224, 224, 3] and i64 [b], one copy."""
    import torch

    x = np.stack([image for image, _ in samples])
    return torch.from_numpy(x), torch.tensor([label for _, label in samples])


def open_folder(work: PictureWork, decoder: str) -> Callable[[Files], Feed]:
    """Opens the loader with 2 worker processes, which persist."""

    def open_feed(files: Files) -> Feed:
        from torch.utils.data import DataLoader

        paths = photographs.of(files).images(work.large)
        dataset: Any = (PilFolder if decoder == "pil" else TensorFolder)(paths, work)
        return TorchFeed(
            DataLoader(
                dataset,
                batch_size=work.batch_size,
                shuffle=work.random,
                num_workers=2,
                persistent_workers=True,
                collate_fn=collate_arrays if decoder == "pil" else None,
            )
        )

    return open_feed


CONTENDERS = [
    Contender(
        name=f"torch-{decoder}-{work}-w2",
        title=f"torch, 2 workers, {title}",
        work=work,
        order="shuffled" if WORKS[work].random else "file",
        open=open_folder(entry, decoder),
        path=None,
        requires=("torch", "torchvision.transforms.v2", "PIL"),
    )
    for work, entry in peer_works().items()
    for decoder, title in (("pil", "PIL and torchvision"), ("torchvision", "torchvision.io.decode_jpeg"))
]
