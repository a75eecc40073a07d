"""The works of the rows `images-*`: what becomes of a picture, and what it should be by the reference."""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

import numpy as np

from benchmarks.loaders import photographs
from benchmarks.loaders.data import Files

SIDE, SHORT_SIDE = 224, 256
"""Pixels of a side of what is delivered, and of the shorter side of the whole picture before the central crop."""
SCALE, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)
"""The area of a random crop as a share of the picture's, and its width ÷ height."""
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's, of levels from 0 to 1."""


@dataclasses.dataclass(frozen=True)
class PictureWork:
    """One work."""

    title: str
    batch_size: int = 128
    large: bool = False
    """Whether it is about the pictures of 12 megapixels."""
    random: bool = False
    """RandomResizedCrop and a flip; else Resize and CenterCrop."""
    dtype: str = "uint8"
    """uint8: levels, [b, 224, 224, 3] or [b, 3, 224, 224]; else normalised numbers, [b, 3, 224, 224]."""

    def samples(self, files: Files) -> int:
        """The samples of an epoch."""
        return photographs.of(files).length(self.large)


CROP = "RandomResizedCrop 224 + flip"
WORKS: dict[str, PictureWork] = {
    "images-crop": PictureWork(CROP, random=True),
    "images-crop-float32": PictureWork(f"{CROP}, normalised float32 NCHW", random=True, dtype="float32"),
    "images-crop-bfloat16": PictureWork(f"{CROP}, normalised bfloat16 NCHW", random=True, dtype="bfloat16"),
    "images-resize": PictureWork("Resize 256 + CenterCrop 224"),
    # A small batch, so that an epoch has several.
    "images-12mp": PictureWork("12 megapixels, Resize 256 + CenterCrop 224", batch_size=8, large=True),
}


def peer_works() -> dict[str, PictureWork]:
    """The works that peers have rows of: uint8, of both sizes."""
    return {work: entry for work, entry in WORKS.items() if entry.dtype == "uint8"}


def decode_whole(path: str) -> Any:
    """A picture as PIL decodes it, in RGB."""
    from PIL import Image

    with Image.open(path) as image:
        return image.convert("RGB")


def reference(image: Any) -> np.ndarray:
    """uint8 [224, 224, 3] of a PIL image: Resize and CenterCrop as torchvision does them to PIL images, by PIL's own filter.

    Without torchvision itself, whose libraries do not stand being loaded after TensorFlow's; a test holds both together.
    """
    from PIL import Image

    width, height = resized_size(*image.size)
    left, top = central_offset(width), central_offset(height)
    resized = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(resized.crop((left, top, left + SIDE, top + SIDE)))


class Generator(Protocol):
    """A source of random numbers: Python's `random.Random` or numpy's `Generator`."""

    def random(self) -> float:
        """Uniform in [0, 1)."""
        ...


def random_box(width: int, height: int, generator: Generator) -> tuple[int, int, int, int]:
    """(left, top, width, height) of a random crop, drawn by torchvision's rule: ten attempts, then the largest central one."""
    area = width * height
    for _ in range(10):
        ratio = RATIO[0] * (RATIO[1] / RATIO[0]) ** generator.random()  # Uniform in the logarithm.
        target = area * (SCALE[0] + (SCALE[1] - SCALE[0]) * generator.random())
        crop_width, crop_height = round((target * ratio) ** 0.5), round((target / ratio) ** 0.5)
        if 0 < crop_width <= width and 0 < crop_height <= height:
            left = int(generator.random() * (width - crop_width + 1))
            top = int(generator.random() * (height - crop_height + 1))
            return left, top, crop_width, crop_height
    crop_width, crop_height = min(width, round(height * RATIO[1])), min(height, round(width / RATIO[0]))
    return (width - crop_width) // 2, (height - crop_height) // 2, crop_width, crop_height


def resized_size(width: int, height: int) -> tuple[int, int]:
    """The size of a picture whose shorter side has become 256, by torchvision's rule (the longer one is cut to an integer)."""
    if width <= height:
        return SHORT_SIDE, int(SHORT_SIDE * height / width)
    return int(SHORT_SIDE * width / height), SHORT_SIDE


def central_offset(length: int) -> int:
    """Where the central 224 of `length` pixels begin, by torchvision's rule."""
    return round((length - SIDE) / 2)
