"""Damaged and hostile pictures: an error that names the byte, or a picture; never a crash, a hang or much memory."""

from __future__ import annotations

import io
import random
import resource
import struct
import time
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image
from zenith.errors import CorruptError, UnsupportedError, ZenithError

LIMIT_S = 0.1

WRITERS: dict[str, Callable[[Image.Image, Callable[..., bytes]], bytes]] = {
    "JPEG": lambda picture, written: written(picture, quality=80),
    "JPEG progressive": lambda picture, written: written(picture, quality=80, progressive=True),
    "JPEG with restarts": lambda picture, written: written(picture, quality=80, restart_marker_blocks=5),
    "JPEG CMYK": lambda picture, written: written(picture.convert("CMYK"), quality=80),
    "PNG": lambda picture, written: written(picture, "PNG"),
    "PNG palette": lambda picture, written: written(picture.quantize(9), "PNG"),
    "WebP": lambda picture, written: written(picture, "WEBP", quality=60),
    "WebP lossless": lambda picture, written: written(picture, "WEBP", lossless=True),
}


@pytest.fixture(params=WRITERS)
def data(request: pytest.FixtureRequest, photograph: Image.Image, written: Callable[..., bytes]) -> bytes:
    return WRITERS[request.param](photograph.crop((200, 60, 283, 121)), written)


def test_cut_at_every_byte(data: bytes, decoded) -> None:
    whole = decoded(data)
    accepted = []
    for end in range(len(data)):
        try:
            np.testing.assert_array_equal(decoded(data[:end]), whole)
            accepted.append(end)
        except (CorruptError, UnsupportedError) as caught:
            error = caught
        if end not in accepted and (error.offset is None or error.offset > end):
            pytest.fail(f"cut at byte {end}: {error!r} at {error.offset}")
    # A PNG has all its pixels, and says so, before the check sum of its end mark.
    assert accepted == (list(range(len(data) - 4, len(data))) if data.startswith(b"\x89PNG") else [])


def test_flipped_bits(data: bytes, decoded) -> None:
    randomly = random.Random(len(data))
    outcomes = {"picture": 0, "error": 0}
    for _ in range(2_000):
        damaged = bytearray(data)
        for _ in range(randomly.choice((1, 1, 1, 2, 8))):
            damaged[randomly.randrange(len(damaged))] ^= 1 << randomly.randrange(8)
        try:
            decoded(bytes(damaged))
            outcomes["picture"] += 1
        except (CorruptError, UnsupportedError):
            outcomes["error"] += 1
    assert min(outcomes.values()) > 0, outcomes


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"\xff\xd8\xff",
        b"\0" * (1 << 20),
        b"GIF89a" + b"\0" * 100,
        b"\xff\xd8\xff\xe0" + b"\xff" * 433,
        b"\x89PNG\r\n\x1a\n" + b"\x11" * 433,
        b"RIFF\x10\0\0\0WEBP" + b"VP8 " * 100,
    ],
    ids=["empty", "a byte", "a marker", "zeros", "GIF", "JPEG of noise", "PNG of noise", "WebP of noise"],
)
def test_no_picture(data: bytes, decoded) -> None:
    begun = time.perf_counter()
    with pytest.raises(ZenithError) as caught:
        decoded(data)
    assert time.perf_counter() - begun < LIMIT_S
    assert caught.value.offset is not None


def segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def frame(marker: int, width: int, height: int, precision: int = 8, components: int = 1) -> bytes:
    specs = b"".join(bytes([number + 1, 0x11, 0]) for number in range(components))
    return segment(marker, struct.pack(">BHHB", precision, height, width, components) + specs)


TABLES = segment(0xDB, b"\0" + b"\1" * 64) + b"".join(
    segment(0xC4, bytes([kind]) + bytes([0, 2] + [0] * 14) + values)
    for kind, values in [(0, b"\0\1"), (0x10, b"\0\xe0")]
)


def scan(first: int = 0, last: int = 63, approximation: int = 0) -> bytes:
    return segment(0xDA, bytes([1, 1, 0, first, last, approximation]))


HOSTILE = {
    "65535 × 65535 in 200 bytes": (frame(0xC0, 65535, 65535) + TABLES + scan() + b"\0" * 20, "pixels_max"),
    "as large as is allowed, of nothing": (frame(0xC0, 13000, 13000) + TABLES + scan() + b"\0" * 20, "cannot be"),
    "the same, progressive": (frame(0xC2, 13000, 13000) + TABLES + scan(0, 0) + b"\0" * 20, "cannot be"),
    "a run of blocks to the end": (frame(0xC2, 13000, 13000) + TABLES + scan(1, 63) + b"\xff\0" * 20, "cannot be"),
    "80,000 scans": (frame(0xC2, 64, 64) + TABLES + (scan(0, 0) + b"\0" * 100) * 80_000, "scans_max"),
    "12 bits": (frame(0xC1, 8, 8, precision=12), "12 bits"),
    "lossless": (frame(0xC3, 8, 8), "lossless"),
    "arithmetic": (frame(0xC9, 8, 8), "arithmetic"),
    "hierarchical": (frame(0xC5, 8, 8), "hierarchical"),
    "height told later": (frame(0xC0, 8, 0), "DNL"),
    "two components": (frame(0xC0, 8, 8, components=2), "2 components"),
    "a second picture inside": (frame(0xC0, 8, 8) + b"\xff\xd8", "second picture"),
    "details before DC": (frame(0xC2, 64, 64) + TABLES + scan(1, 63) + b"\0" * 200, "DC values"),
    "no tables": (frame(0xC0, 8, 8) + scan() + b"\0" * 20, "not defined"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_jpeg(case: str, decoded) -> None:
    body, message = HOSTILE[case]
    data = b"\xff\xd8" + body + b"\xff\xd9"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun = time.perf_counter()
    with pytest.raises((CorruptError, UnsupportedError), match=message) as caught:
        decoded(data)
    assert time.perf_counter() - begun < LIMIT_S
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10
    assert caught.value.offset is not None


def test_hostile_png_and_webp(decoded) -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    for size, message in [(65_535, "pixels_max"), (13_000, "cannot be")]:
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", size, size, 8, 6, 0, 0, 0))
        data = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
        begun = time.perf_counter()
        with pytest.raises((CorruptError, UnsupportedError), match=message):
            decoded(data)
        assert time.perf_counter() - begun < LIMIT_S
    extended = b"VP8X" + struct.pack("<I", 10) + b"\0\0\0\0" + b"\x00\xff\x00" * 2 + b"VP8 \0\0\0\0"
    with pytest.raises(ZenithError, match="pixels_max"):
        decoded(b"RIFF" + struct.pack("<I", 4 + len(extended)) + b"WEBP" + extended)


def with_garbage(data: bytes) -> bytes:
    return data + b"what an editor left here" * 10


def test_trailing_garbage_is_accepted(photograph, written, decoded, expected) -> None:
    for kind in ({}, {"progressive": True}):
        data = written(photograph.crop((0, 0, 50, 40)), **kind)
        np.testing.assert_array_equal(decoded(with_garbage(data)), expected(with_garbage(data)))


def test_bytes_between_scan_and_end_are_accepted(photograph, written, decoded, expected) -> None:
    # Cameras pad; libjpeg warns of "extraneous bytes before marker" and goes on.
    data = written(photograph.crop((0, 0, 50, 40)))
    data = data[:-2] + b"\0" * 50 + data[-2:]
    np.testing.assert_array_equal(decoded(data), expected(data))


def test_exif_that_points_nowhere(photograph, written, decoded, expected) -> None:
    data = written(photograph.crop((0, 0, 50, 40)))
    for tiff in (b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff", b"II*\0\x08\0\0\0\1\0\x12\1\3\0", b"none"):
        spoilt = data[:2] + segment(0xE1, b"Exif\0\0" + tiff) + data[2:]
        np.testing.assert_array_equal(decoded(spoilt, turn=True), expected(data))


@pytest.mark.parametrize("wrong", ["missing", "out of order"])
def test_restart_markers_that_are_wrong(photograph, written, decoded: Callable[..., Any], wrong: str) -> None:
    data = written(photograph.crop((0, 0, 160, 120)), restart_marker_blocks=5)
    at = data.index(b"\xff\xd2")
    spoilt = data[:at] + data[at + 2 :] if wrong == "missing" else data[:at] + b"\xff\xd6" + data[at + 2 :]
    with pytest.raises(CorruptError, match="restart marker") as caught:
        decoded(spoilt)
    assert caught.value.offset is not None
    assert Image.open(io.BytesIO(data)).size == (160, 120)
