"""JPEG pixel for pixel as Pillow (libjpeg-turbo) decodes it."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from zenith.errors import InvalidArgumentError

SAMPLINGS = ["4:4:4", "4:2:2", "4:2:0"]
KINDS: list[dict[str, Any]] = [
    {},
    {"optimize": True},
    {"progressive": True},
    {"restart_marker_blocks": 5},
    {"restart_marker_rows": 1, "progressive": True},
]

# Pillow reads these samplings, but does not write them: 23 × 17 pixels, written by libjpeg-turbo's own interface.
OTHER_SAMPLINGS = {
    "4:4:0": """
        /9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAA0JCgsKCA0LCgsODg0PEyAVExISEyccHhcgLikxMC4pLSwzOko+MzZGNywtQFdBRkxOUlNSMj5a
        YVpQYEpRUk//2wBDAQ4ODhMREyYVFSZPNS01T09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT0//wAAR
        CAARABcDARIAAhEBAxEB/8QAHwAAAQUBAQEBAQEAAAAAAAAAAAECAwQFBgcICQoL/8QAtRAAAgEDAwIEAwUFBAQAAAF9AQIDAAQRBRIhMUEG
        E1FhByJxFDKBkaEII0KxwRVS0fAkM2JyggkKFhcYGRolJicoKSo0NTY3ODk6Q0RFRkdISUpTVFVWV1hZWmNkZWZnaGlqc3R1dnd4eXqDhIWG
        h4iJipKTlJWWl5iZmqKjpKWmp6ipqrKztLW2t7i5usLDxMXGx8jJytLT1NXW19jZ2uHi4+Tl5ufo6erx8vP09fb3+Pn6/8QAHwEAAwEBAQEB
        AQEBAQAAAAAAAAECAwQFBgcICQoL/8QAtREAAgECBAQDBAcFBAQAAQJ3AAECAxEEBSExBhJBUQdhcRMiMoEIFEKRobHBCSMzUvAVYnLRChYk
        NOEl8RcYGRomJygpKjU2Nzg5OkNERUZHSElKU1RVVldYWVpjZGVmZ2hpanN0dXZ3eHl6goOEhYaHiImKkpOUlZaXmJmaoqOkpaanqKmqsrO0
        tba3uLm6wsPExcbHyMnK0tPU1dbX2Nna4uPk5ebn6Onq8vP09fb3+Pn6/9oADAMBAAIRAxEAPwDp10+FgcoMHtSvBbIf9HvJIz6B8j9a5rI6
        rjoNNjA2uoI602C4uYWxLLHMnrjBoVg1Hy6TFksq1cin8wdqLIV2cGfvJ9P8KKQI3bP/AFK0Uima1n90fWiqQmf/2Q==
    """,
    "4:1:1": """
        /9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAA0JCgsKCA0LCgsODg0PEyAVExISEyccHhcgLikxMC4pLSwzOko+MzZGNywtQFdBRkxOUlNSMj5a
        YVpQYEpRUk//2wBDAQ4ODhMREyYVFSZPNS01T09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT0//wAAR
        CAARABcDAUEAAhEBAxEB/8QAHwAAAQUBAQEBAQEAAAAAAAAAAAECAwQFBgcICQoL/8QAtRAAAgEDAwIEAwUFBAQAAAF9AQIDAAQRBRIhMUEG
        E1FhByJxFDKBkaEII0KxwRVS0fAkM2JyggkKFhcYGRolJicoKSo0NTY3ODk6Q0RFRkdISUpTVFVWV1hZWmNkZWZnaGlqc3R1dnd4eXqDhIWG
        h4iJipKTlJWWl5iZmqKjpKWmp6ipqrKztLW2t7i5usLDxMXGx8jJytLT1NXW19jZ2uHi4+Tl5ufo6erx8vP09fb3+Pn6/8QAHwEAAwEBAQEB
        AQEBAQAAAAAAAAECAwQFBgcICQoL/8QAtREAAgECBAQDBAcFBAQAAQJ3AAECAxEEBSExBhJBUQdhcRMiMoEIFEKRobHBCSMzUvAVYnLRChYk
        NOEl8RcYGRomJygpKjU2Nzg5OkNERUZHSElKU1RVVldYWVpjZGVmZ2hpanN0dXZ3eHl6goOEhYaHiImKkpOUlZaXmJmaoqOkpaanqKmqsrO0
        tba3uLm6wsPExcbHyMnK0tPU1dbX2Nna4uPk5ebn6Onq8vP09fb3+Pn6/9oADAMBAAIRAxEAPwDp10+FgcoMHtT4NNjA2uoI60sukxZLKtFc
        vKdVxjwWyH/R7ySM+gfI/WiC4uYWxLLHMnrjBq/FP5g7UVSYmcGfvJ9P8K3bP/UrWtZ/dH1oqVuPof/Z
    """,
}


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_photographs(photographs, written, decoded, expected, sampling: str, kind: dict[str, Any]) -> None:
    for photograph in photographs:
        for quality in (50, 75, 90, 95):
            data = written(photograph, quality=quality, subsampling=sampling, **kind)
            np.testing.assert_array_equal(decoded(data), expected(data))


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_every_small_size(photograph, written, decoded, expected, sampling: str, kind: dict[str, Any]) -> None:
    for width in range(1, 36):
        for height in (1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33):
            part = photograph.crop((200, 60, 200 + width, 60 + height))
            data = written(part, quality=90, subsampling=sampling, **kind)
            np.testing.assert_array_equal(decoded(data), expected(data), err_msg=f"{width} × {height}")


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
@pytest.mark.parametrize("colours", ["L", "CMYK", "RGB", "RGB kept"])
def test_modes(photograph, written, decoded, expected, mode: str, colours: str) -> None:
    stored, *kept = colours.split()
    data = written(photograph.convert(stored), quality=85, **({"keep_rgb": True} if kept else {}))
    np.testing.assert_array_equal(decoded(data, mode=mode), expected(data, mode=mode))


def test_ycck(photograph, written, decoded, expected) -> None:
    # Adobe's marker says what the four components are; Pillow writes CMYK, and the reader believes the marker.
    data = written(photograph.convert("CMYK"), quality=85)
    at = data.index(b"\xff\xeeAdobe"[:2]) if b"\xff\xee" in data else -1
    marker = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x02"
    length = int.from_bytes(data[at + 2 : at + 4]) if at >= 0 else 0
    data = data[:2] + marker + data[2:at] + data[at + 2 + length :] if at >= 0 else data[:2] + marker + data[2:]
    np.testing.assert_array_equal(decoded(data), expected(data))


@pytest.mark.parametrize("sampling", OTHER_SAMPLINGS)
def test_other_samplings(decoded, expected, sampling: str) -> None:
    data = base64.b64decode(OTHER_SAMPLINGS[sampling])
    for reduce in (1, 2, 4, 8):
        np.testing.assert_array_equal(decoded(data, reduce=reduce), expected(data, reduce=reduce))
    whole = decoded(data)
    for x, y, width, height in [(3, 2, 9, 11), (8, 8, 8, 8), (22, 16, 1, 1), (0, 7, 23, 1)]:
        part = decoded(data, region=[x, y, width, height])
        np.testing.assert_array_equal(part, whole[y : y + height, x : x + width])


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("reduce", [2, 4, 8])
def test_reduced(photographs, written, decoded, expected, sampling: str, progressive: bool, reduce: int) -> None:
    for photograph in photographs:
        for part in (photograph, photograph.crop((101, 51, 138, 84))):
            data = written(part, quality=90, subsampling=sampling, progressive=progressive)
            np.testing.assert_array_equal(decoded(data, reduce=reduce), expected(data, reduce=reduce))


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("reduce", [1, 2, 4, 8])
def test_coarse_colour(photographs, written, decoded, sampling: str, progressive: bool, reduce: int) -> None:
    """The same picture to the eye, in the same place; to the last bit where nothing is reduced or nothing is subsampled."""
    for photograph in photographs:
        data = written(photograph, quality=90, subsampling=sampling, progressive=progressive)
        coarse, fine = (decoded(data, reduce=reduce, coarse=coarse) for coarse in (True, False))
        if reduce == 1 or sampling == "4:4:4":
            np.testing.assert_array_equal(coarse, fine)
        difference = coarse.astype(float) - fine
        assert 10 * math.log10(255**2 / max(float((difference**2).mean()), 1e-9)) > 30
        assert np.abs(difference.mean(axis=(0, 1))).max() < 0.5


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("optimize", [False, True])
def test_large_pictures(photographs, written, decoded, expected, sampling: str, optimize: bool) -> None:
    """Large enough for scans to be read at several places at once."""
    mosaic = Image.new("RGB", (1603, 1205))
    for tile in range(16):
        mosaic.paste(photographs[tile % len(photographs)], (tile % 4 * 401, tile // 4 * 302))
    data = written(mosaic, quality=93, subsampling=sampling, optimize=optimize)
    assert len(data) > 300_000
    np.testing.assert_array_equal(decoded(data, reduce=8), expected(data, reduce=8))
    np.testing.assert_array_equal(decoded(data, region=[777, 901, 60, 50]), expected(data)[901:951, 777:837])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(draw=st.data())
def test_a_region_is_a_part_of_the_whole(photograph, written, decoded, draw: st.DataObject) -> None:
    size = draw.draw(st.tuples(st.integers(1, 150), st.integers(1, 120)), "size")
    options: dict[str, Any] = {
        "subsampling": draw.draw(st.sampled_from(SAMPLINGS), "sampling"),
        "progressive": draw.draw(st.booleans(), "progressive"),
        "restart_marker_blocks": draw.draw(st.integers(0, 9), "restart"),
    }
    data = written(photograph.crop((150, 100, 150 + size[0], 100 + size[1])), **options)
    asked = {
        "reduce": draw.draw(st.sampled_from([1, 2, 4, 8]), "reduce"),
        "coarse": draw.draw(st.booleans(), "coarse"),
    }
    whole = decoded(data, **asked)
    height, width = whole.shape[:2]
    x = draw.draw(st.integers(0, width - 1), "x")
    y = draw.draw(st.integers(0, height - 1), "y")
    right = draw.draw(st.integers(x + 1, width), "right")
    bottom = draw.draw(st.integers(y + 1, height), "bottom")
    part = decoded(data, region=[x, y, right - x, bottom - y], **asked)
    np.testing.assert_array_equal(part, whole[y:bottom, x:right])


@pytest.mark.parametrize("orientation", range(10))
def test_orientation(photograph, written, decoded, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = written(photograph.crop((100, 100, 190, 163)), exif=exif, quality=90)
    turned = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    np.testing.assert_array_equal(decoded(data, turn=True), turned)
    np.testing.assert_array_equal(decoded(data, turn=True, region=[5, 9, 31, 17]), turned[9:26, 5:36])
    np.testing.assert_array_equal(decoded(data), np.asarray(Image.open(io.BytesIO(data))))


@pytest.mark.parametrize("region", [[0, 0, 0, 5], [0, 0, 5, 0], [60, 0, 5, 5], [0, 0, 65, 1], [1, 1, 2**63, 2**63]])
def test_regions_outside_are_refused(photograph, written, decoded: Callable[..., Any], region: list[int]) -> None:
    data = written(photograph.crop((0, 0, 64, 48)))
    with pytest.raises(InvalidArgumentError, match="64 × 48"):
        decoded(data, region=region)


@pytest.mark.parametrize(
    "options",
    [{"reduce": 3}, {"mode": "CMYK"}, {"turn": 1}, {"region": [1, 2]}, {"region": [0, 0, -1, 1]}, {"size": 1}],
)
def test_options_that_cannot_be(photograph, written, decoded: Callable[..., Any], options: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError, match="decode_image"):
        decoded(written(photograph), **options)
