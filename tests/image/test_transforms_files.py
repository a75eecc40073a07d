"""Transforms of files: what a dataset gets is what the transforms make of the picture that Pillow decodes."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps
from zenith import CorruptError, _engine, transforms

from tests.image.pictures import Array

PIPELINES: list[list[transforms.Transform]] = [
    [transforms.RandomResizedCrop(96), transforms.RandomHorizontalFlip()],
    [transforms.Resize(128, "bicubic"), transforms.CenterCrop(112)],
    [transforms.RandomCrop(64, padding=8, pad_if_needed=True), transforms.RandomVerticalFlip()],
    [transforms.CenterCrop(300)],
    [transforms.RandomHorizontalFlip(1.0), transforms.Resize((50, 70), "lanczos")],
    [transforms.Resize((64, 96)), transforms.ColorJitter(0.4, 0.4, 0.4, 0.1), transforms.RandomCrop(48)],
    [transforms.RandomResizedCrop((40, 64)), transforms.RandAugment(), transforms.RandomErasing()],
]


def made(compose: transforms.Compose, data: bytes, key: int) -> Array:
    """Of the file."""
    raw, dtype, shape = _engine.Transforms(compose.to_json()).apply(data, key)
    return np.frombuffer(raw, dtype).reshape(shape)


def opened(data: bytes, mode: str = "RGB") -> Array:
    return np.asarray(Image.open(io.BytesIO(data)).convert(mode))


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("steps", PIPELINES, ids=lambda steps: "-".join(type(step).__name__ for step in steps))
def test_only_what_is_needed_is_decoded_and_it_is_the_same(photographs, written, steps: Any, mode: Any) -> None:
    compose = transforms.Compose(steps, layout="NHWC", mode=mode)
    for photograph in photographs:
        for options in ({"quality": 85}, {"quality": 90, "subsampling": "4:4:4", "progressive": True}, {"kind": "PNG"}):
            data = written(photograph, **options)
            pixels = opened(data, mode)
            for key in range(6):
                np.testing.assert_array_equal(np.squeeze(made(compose, data, key)), np.squeeze(compose(pixels, key)))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_if_that_is_asked_for(photograph, written, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = written(photograph, exif=exif, quality=90)
    steps = [transforms.RandomResizedCrop((40, 64))]
    turned = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    for key in range(4):
        lying = transforms.Compose(steps, layout="NHWC")
        np.testing.assert_array_equal(made(lying, data, key), lying(opened(data), key))
        upright = transforms.Compose(steps, layout="NHWC", exif=True)
        np.testing.assert_array_equal(made(upright, data, key), upright(turned, key))


@pytest.mark.parametrize("size", [224, 100, 48])
def test_fast_decoding_is_close(photographs, written, size: int) -> None:
    """Smaller inverse transforms lose what resizing averages away: the same picture to the eye, in the same place."""
    steps = [transforms.Resize(size), transforms.CenterCrop(size)]
    fast, exact = (transforms.Compose(steps, decode=mode, layout="NHWC") for mode in ("fast", "exact"))  # type: ignore[arg-type]
    for photograph in photographs:
        data = written(photograph, quality=90)
        difference = made(fast, data, 0).astype(float) - made(exact, data, 0)
        noise = 10 * math.log10(255**2 / max(float((difference**2).mean()), 1e-9))
        assert noise > 30, f"{noise} dB"
        assert abs(difference.mean()) < 1


def test_fast_is_exact_where_the_picture_would_become_too_small(photograph, written) -> None:
    data = written(photograph, quality=90)
    steps = [transforms.Resize(min(photograph.size) - 10), transforms.CenterCrop(64)]
    fast, exact = (transforms.Compose(steps, decode=mode) for mode in ("fast", "exact"))  # type: ignore[arg-type]
    np.testing.assert_array_equal(made(fast, data, 0), made(exact, data, 0))


def test_a_damaged_file_leaves_nothing_behind(photograph, written) -> None:
    """The error is the decoder's, and the next picture is as if nothing had been."""
    data = written(photograph, quality=90)
    compose = transforms.Compose([transforms.RandomResizedCrop(32), transforms.RandomCrop(40, padding=4)])
    expected = made(compose, data, 3)
    for end in (0, 10, 500, len(data) // 2):
        with pytest.raises(CorruptError):
            made(transforms.Compose([transforms.Resize((32, 32)), transforms.Pad(2)]), data[:end], 3)
        np.testing.assert_array_equal(made(compose, data, 3), expected)
