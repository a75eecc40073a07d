"""PNG and WebP as Pillow decodes them."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

MODES = ["RGB", "L", "RGBA"]
PALETTE_WARNING = "ignore:Palette images with Transparency:UserWarning"


def png_cases(photograph: Image.Image) -> dict[str, tuple[Image.Image, dict[str, Any]]]:
    part = photograph.crop((150, 60, 283, 161))
    random = np.random.default_rng(1)
    alpha = Image.fromarray(np.dstack([np.asarray(part), random.integers(0, 256, (101, 133), np.uint8)]))
    deep = Image.fromarray((np.arange(101 * 133).reshape(101, 133) * 5 % 65536).astype(np.uint16))
    return {
        "RGB": (part, {}),
        "RGB with a transparent colour": (part, {"transparency": part.getpixel((3, 3))}),
        "RGBA": (alpha, {}),
        "grey": (part.convert("L"), {}),
        "grey with a transparent value": (part.convert("L"), {"transparency": 100}),
        "grey and alpha": (alpha.convert("LA"), {}),
        "grey of 1 bit": (part.convert("1"), {}),
        "grey of 16 bits": (deep, {}),
        "palette of 8 bits": (part.quantize(200), {}),
        "palette of 4 bits": (part.quantize(9), {}),
        "palette of 2 bits": (part.quantize(4), {}),
        "palette with transparency": (part.quantize(20), {"transparency": bytes(range(0, 200, 10))}),
    }


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.filterwarnings(PALETTE_WARNING)
def test_png(photograph, written, decoded, expected, mode: str) -> None:
    for name, (picture, options) in png_cases(photograph).items():
        data = written(picture, "PNG", **options)
        np.testing.assert_array_equal(decoded(data, mode=mode), expected(data, mode=mode), err_msg=name)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_of(width: int, height: int, depth: int, colour: int, interlaced: bool, raw: bytes) -> bytes:
    """A file that Pillow does not write: its pixels as they stand in the stream, with a filter byte before each row."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(raw)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize(("colour", "channels"), [(2, 3), (4, 2), (6, 4)])
@pytest.mark.parametrize("mode", MODES)
def test_png_of_16_bits(decoded, expected, colour: int, channels: int, mode: str) -> None:
    samples = np.random.default_rng(2).integers(0, 65536, (7, 5 * channels)).astype(">u2")
    raw = b"".join(b"\0" + row.tobytes() for row in samples)
    data = png_of(5, 7, 16, colour, False, raw)
    np.testing.assert_array_equal(decoded(data, mode=mode), expected(data, mode=mode))


def test_png_interlaced(photograph, decoded, expected) -> None:
    pixels = np.asarray(photograph.crop((200, 100, 213, 119)))
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    raw = b"".join(b"\0" + row.tobytes() for y, x, down, across in passes for row in pixels[y::down, x::across])
    data = png_of(13, 19, 8, 2, True, raw)
    np.testing.assert_array_equal(expected(data), pixels)
    np.testing.assert_array_equal(decoded(data), pixels)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("options", [{"lossless": True}, {"quality": 80}, {"quality": 30, "method": 6}], ids=str)
def test_webp(photograph, written, decoded, expected, mode: str, options: dict[str, Any]) -> None:
    for name in ("RGB", "RGBA"):
        data = written(png_cases(photograph)[name][0], "WEBP", **options)
        np.testing.assert_array_equal(decoded(data, mode=mode), expected(data, mode=mode), err_msg=name)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_regions_and_orientation(photograph, written, decoded, kind: str) -> None:
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        data = written(photograph.crop((100, 100, 190, 163)), kind, exif=exif, lossless=True)
        stored = Image.open(io.BytesIO(data))
        turned = np.asarray(ImageOps.exif_transpose(stored))
        np.testing.assert_array_equal(decoded(data, turn=True), turned)
        np.testing.assert_array_equal(decoded(data, turn=True, region=[5, 9, 31, 17]), turned[9:26, 5:36])
        np.testing.assert_array_equal(decoded(data), np.asarray(stored))


@pytest.mark.parametrize("reduce", [2, 4, 8])
def test_reduced_is_the_mean(photograph, written, decoded, reduce: int) -> None:
    picture = photograph.crop((100, 100, 190, 163))
    data = written(picture, "PNG")
    mean = np.asarray(picture.reduce(reduce)).astype(int)
    result = decoded(data, reduce=reduce).astype(int)
    assert result.shape == mean.shape
    assert np.abs(result - mean).max() <= 1  # Pillow multiplies by a rounded reciprocal.
    np.testing.assert_array_equal(decoded(data, reduce=reduce, region=[1, 2, 5, 4]), result[2:6, 1:6])
