"""Photographs, and their files as Pillow writes them."""

from __future__ import annotations

import importlib.util
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from matplotlib import cbook
from PIL import Image
from zenith import _engine

Pixels = npt.NDArray[np.uint8]


def photographs_at_hand() -> list[Path]:
    """One comes with matplotlib; those of scikit-image and scikit-learn are taken too where these are installed."""
    found = [Path(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))]
    for package, folder, names in [
        ("skimage", "data", ["astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg"]),
        ("sklearn", "datasets/images", ["china.jpg", "flower.jpg"]),
    ]:
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin is not None:
            found += [path for name in names if (path := Path(spec.origin).parent / folder / name).exists()]
    return found


@pytest.fixture(scope="session")
def photographs() -> list[Image.Image]:
    return [Image.open(path).convert("RGB") for path in photographs_at_hand()]


@pytest.fixture(scope="session")
def photograph(photographs: list[Image.Image]) -> Image.Image:
    return photographs[0]


@pytest.fixture(scope="session")
def written() -> Callable[..., bytes]:
    """The file that Pillow writes."""

    def written(picture: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
        file = io.BytesIO()
        picture.save(file, kind, **options)
        return file.getvalue()

    return written


@pytest.fixture(scope="session")
def decoded() -> Callable[..., Pixels]:
    """What the engine makes of a file; the options are those of `decode_image`."""

    def decoded(data: bytes, **options: Any) -> Pixels:
        height, width, channels, pixels = _engine.decode_image(data, json.dumps(options))
        shape = (height, width) if channels == 1 else (height, width, channels)
        return np.frombuffer(pixels, np.uint8).reshape(shape)

    return decoded


@pytest.fixture(scope="session")
def expected() -> Callable[..., Pixels]:
    """What Pillow makes of a file."""

    def expected(data: bytes, mode: str = "RGB", reduce: int = 1) -> Pixels:
        picture = Image.open(io.BytesIO(data))
        if reduce > 1:
            picture.draft(picture.mode, (picture.width // reduce, picture.height // reduce))
        return np.asarray(picture.convert(mode))

    return expected
