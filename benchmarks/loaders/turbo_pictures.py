"""A picture by libjpeg-turbo (simplejpeg) and OpenCV: what one writes by hand for speed, and what Grain and SPDL are given to run.

Both let go of the interpreter's lock, so threads decode side by side. OpenCV's only resizing that averages what it leaves out is
INTER_AREA, so that is used where a picture becomes smaller, and bilinear where it becomes larger.
"""

from __future__ import annotations

import random
import threading
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.loaders.pictures import SHORT_SIDE, SIDE, Generator, central_offset, random_box, resized_size


def decode(encoded: bytes, shorter_side_min: int = 0) -> np.ndarray:
    """uint8 [h, w, 3]; of half, a quarter or an eighth of the sides where both stay at least `shorter_side_min` (0: whole)."""
    import simplejpeg

    return simplejpeg.decode_jpeg(encoded, "RGB", min_height=shorter_side_min, min_width=shorter_side_min)  # type: ignore[no-any-return]


def resize(image: np.ndarray, width: int, height: int) -> Any:
    """uint8 [height, width, 3]."""
    import cv2

    smaller = image.shape[1] > width or image.shape[0] > height
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)


THREAD = threading.local()


def of_thread() -> Generator:
    """A generator of this thread's own: one for several threads would make them wait for each other."""
    if not hasattr(THREAD, "generator"):
        THREAD.generator = random.Random(threading.get_ident())
    generator: Generator = THREAD.generator
    return generator


def random_crop(path: str, generator: Generator) -> np.ndarray:
    """RandomResizedCrop and a flip, uint8 [224, 224, 3]."""
    image = decode(Path(path).read_bytes())
    left, top, width, height = random_box(image.shape[1], image.shape[0], generator)
    made: np.ndarray = resize(image[top : top + height, left : left + width], SIDE, SIDE)
    return made[:, ::-1] if generator.random() < 0.5 else made


def central_crop(path: str, large: bool) -> np.ndarray:
    """Resize and CenterCrop, uint8 [224, 224, 3]; a `large` picture is decoded at the least scale that is large enough."""
    image = decode(Path(path).read_bytes(), SHORT_SIDE if large else 0)
    width, height = resized_size(image.shape[1], image.shape[0])
    made: np.ndarray = resize(image, width, height)
    left, top = central_offset(width), central_offset(height)
    return made[top : top + SIDE, left : left + SIDE]
