"""Resizes, crops, flips and padding: equal to PIL and torchvision, given the same parameters."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
import torchvision.transforms.v2 as vision
import torchvision.transforms.v2.functional as functional
from hypothesis import given, settings
from hypothesis import strategies as some
from PIL import Image
from zenith import _engine, transforms

from tests.image.pictures import Array, noise, scene

INTERPOLATIONS = ["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
MODES = ["constant", "edge", "reflect", "symmetric"]
SIDE = some.integers(1, 64)


def view(transform: transforms.Transform, height: int, width: int, key: int) -> dict[str, Any]:
    """What the engine takes of a picture."""
    found: dict[str, Any] = json.loads(_engine.Transforms(transform.to_json()).view(height, width, key))
    return found


def pil(picture: Array) -> Image.Image:
    return Image.fromarray(picture)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(224, 224), (60, 700), (700, 60), (375, 90), (90, 500), (1, 1)])
def test_resizing_is_pillows(interpolation: str, channels: int, size: tuple[int, int]) -> None:
    for picture in (noise(375, 500, channels), scene(375, 500, channels)):
        expected = functional.resize(pil(picture), list(size), vision.InterpolationMode(interpolation))
        np.testing.assert_array_equal(transforms.Resize(size, interpolation)(picture), np.asarray(expected))


@given(SIDE, SIDE, SIDE, SIDE, some.sampled_from(INTERPOLATIONS), some.sampled_from([1, 3]))
@settings(max_examples=400, deadline=None)
def test_small_pictures_resize_as_pillows(
    height: int, width: int, to_height: int, to_width: int, interpolation: str, channels: int
) -> None:
    picture = noise(height, width, channels)
    expected = functional.resize(pil(picture), [to_height, to_width], vision.InterpolationMode(interpolation))
    made = transforms.Resize((to_height, to_width), interpolation)(picture)
    np.testing.assert_array_equal(made, np.asarray(expected))


@pytest.mark.parametrize(
    ("size", "max_size"), [(256, None), (100, 130), (None, 120), (375, None), (33, 34), ((20, 30), None)]
)
@pytest.mark.parametrize("sides", [(375, 500), (500, 375), (77, 77), (20, 400)])
def test_the_new_size_is_torchvisions(size: Any, max_size: int | None, sides: tuple[int, int]) -> None:
    picture = noise(*sides)
    wanted = list(size) if isinstance(size, tuple) else size
    expected = np.asarray(functional.resize(pil(picture), wanted, max_size=max_size))
    np.testing.assert_array_equal(transforms.Resize(size, max_size=max_size)(picture), expected)


@given(SIDE, SIDE, SIDE, SIDE)
@settings(max_examples=200, deadline=None)
def test_the_middle_is_torchvisions(height: int, width: int, crop_height: int, crop_width: int) -> None:
    picture = noise(height, width)
    expected = functional.center_crop(pil(picture), [crop_height, crop_width])
    np.testing.assert_array_equal(transforms.CenterCrop((crop_height, crop_width))(picture), np.asarray(expected))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("padding", "sides"),
    [
        (4, (4, 4, 4, 4)),
        ((3, 5), (3, 5, 3, 5)),
        ((3, 0, 2, 7), (3, 0, 2, 7)),
        ((90, 90), (90, 90, 90, 90)),
    ],
)
def test_padding_is_numpys(mode: str, padding: Any, sides: tuple[int, int, int, int]) -> None:
    picture = noise(20, 31)
    left, top, right, bottom = sides
    fill: dict[str, Any] = {"constant_values": 9} if mode == "constant" else {}
    expected = np.pad(picture, ((top, bottom), (left, right), (0, 0)), mode=mode, **fill)  # type: ignore[call-overload]
    np.testing.assert_array_equal(transforms.Pad(padding, 9, mode)(picture), expected)
    np.testing.assert_array_equal(expected, np.asarray(functional.pad(pil(picture), list(sides), 9, mode)))


def test_padding_has_a_level_for_each_channel() -> None:
    made = transforms.Pad(2, (10, 20, 30))(noise(5, 6))
    assert made[0, 0].tolist() == [10, 20, 30]
    assert made[-1, 3].tolist() == [10, 20, 30]


def test_flips() -> None:
    picture = noise(21, 34)
    np.testing.assert_array_equal(transforms.RandomHorizontalFlip(1.0)(picture), picture[:, ::-1])
    np.testing.assert_array_equal(transforms.RandomVerticalFlip(1.0)(picture), picture[::-1])
    np.testing.assert_array_equal(transforms.RandomHorizontalFlip(0.0)(picture), picture)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_a_random_resized_crop_is_a_crop_and_a_resize(interpolation: str) -> None:
    picture = scene(375, 500)
    crop = transforms.RandomResizedCrop((96, 128), interpolation=interpolation)
    for key in range(40):
        part = view(crop, 375, 500, key)["source"]
        expected = functional.resized_crop(
            pil(picture),
            part["y"],
            part["x"],
            part["height"],
            part["width"],
            [96, 128],
            vision.InterpolationMode(interpolation),
        )
        np.testing.assert_array_equal(crop(picture, key), np.asarray(expected))


@pytest.mark.parametrize("mode", MODES)
def test_a_random_crop_is_a_part_of_the_padded_picture(mode: str) -> None:
    picture = noise(32, 40)
    crop = transforms.RandomCrop(32, padding=4, padding_mode=mode, fill=7)
    fill: dict[str, Any] = {"constant_values": 7} if mode == "constant" else {}
    padded = np.pad(picture, ((4, 4), (4, 4), (0, 0)), mode=mode, **fill)  # type: ignore[call-overload]
    windows = np.lib.stride_tricks.sliding_window_view(padded, (32, 32), axis=(0, 1)).transpose(0, 1, 3, 4, 2)
    for key in range(60):
        made = crop(picture, key)
        assert (windows == made).all(axis=(2, 3, 4)).any(), key


def test_smaller_pictures_are_padded_if_that_is_asked_for() -> None:
    made = transforms.RandomCrop(24, pad_if_needed=True)(noise(10, 30), key=1)
    assert made.shape == (24, 24, 3)
    with pytest.raises(ValueError, match=r"RandomCrop: size \(24, 24\) is larger .* 10 × 30 .*pad_if_needed"):
        transforms.RandomCrop(24)(noise(10, 30))


STEPS: list[transforms.Transform] = [
    transforms.Resize(40),
    transforms.Resize((30, 50), "bicubic"),
    transforms.CenterCrop((28, 60)),
    transforms.CenterCrop(20),
    transforms.Pad((1, 2, 3, 4), 5, "reflect"),
    transforms.Pad(3, 9),
    transforms.RandomHorizontalFlip(1.0),
    transforms.RandomVerticalFlip(1.0),
]


@given(some.lists(some.sampled_from(STEPS), min_size=1, max_size=5), some.integers(8, 64), some.integers(8, 64))
@settings(max_examples=300, deadline=None)
def test_geometry_at_once_is_geometry_one_by_one(steps: list[transforms.Transform], height: int, width: int) -> None:
    picture = noise(height, width)
    expected = picture
    for step in steps:
        expected = step(expected)
    np.testing.assert_array_equal(transforms.Compose(steps)(picture), expected)


def test_a_crop_of_a_resized_picture_is_pillows() -> None:
    picture = scene(375, 500)
    both = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224)])
    expected = functional.center_crop(functional.resize(pil(picture), [256]), [224])
    np.testing.assert_array_equal(both(picture), np.asarray(expected))


def test_pictures_come_back_as_they_went_in() -> None:
    picture = noise(40, 50)
    crop = transforms.CenterCrop(16)
    expected = picture[12:28, 17:33]
    image = crop(pil(picture))
    assert isinstance(image, Image.Image)
    np.testing.assert_array_equal(np.asarray(image), expected)
    tensor = crop(torch.from_numpy(picture).permute(2, 0, 1))
    np.testing.assert_array_equal(tensor.permute(1, 2, 0).numpy(), expected)
    grey = crop(picture[:, :, 0])
    np.testing.assert_array_equal(grey, expected[:, :, 0])
    np.testing.assert_array_equal(crop(picture[:, :, :1]), expected[:, :, :1])
    np.testing.assert_array_equal(crop(picture[::-1, ::-1]), picture[::-1, ::-1][12:28, 17:33])


@pytest.mark.parametrize(
    "picture",
    [np.zeros((4, 4), np.float32), np.zeros((4, 4, 4), np.uint8), np.zeros(4, np.uint8), torch.zeros(4, 4, 3)],
)
def test_other_pictures_are_refused(picture: Any) -> None:
    with pytest.raises(TypeError, match="expected a uint8"):
        transforms.CenterCrop(2)(picture)
    with pytest.raises(TypeError, match="RGBA"):
        transforms.CenterCrop(2)(Image.new("RGBA", (4, 4)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: transforms.Resize(0), "Resize: size must be in 1..="),
        (lambda: transforms.Resize((3, 4), max_size=9), "Resize: max_size goes with size as one int"),
        (lambda: transforms.Resize(9, max_size=9), "Resize: max_size must be above size = 9"),
        (lambda: transforms.Resize(9, antialias=False), "Resize: antialias must be True"),
        (lambda: transforms.Resize(9, "cubic"), "Resize .*unknown variant `cubic`"),
        (lambda: transforms.CenterCrop("a"), "CenterCrop .*an int or a pair"),  # type: ignore[arg-type]
        (lambda: transforms.CenterCrop((1, 2, 3)), "CenterCrop .*an int or a pair"),
        (lambda: transforms.RandomCrop(3, padding=-1), "RandomCrop: padding must be in 0..="),
        (lambda: transforms.RandomResizedCrop(3, scale=(0.5, 0.1)), "RandomResizedCrop: scale must be"),
        (lambda: transforms.RandomResizedCrop(3, ratio=(0, 1)), "RandomResizedCrop: ratio must be"),
        (lambda: transforms.RandomHorizontalFlip(1.5), "RandomHorizontalFlip: p must be a probability"),
        (lambda: transforms.Pad(1, 256), "Pad: fill must be in 0..=255"),
        (lambda: transforms.Pad(1, (1, 2)), "Pad: fill must be a number or 3"),
        (lambda: transforms.Pad(1, padding_mode="wrap"), "Pad .*unknown variant `wrap`"),
    ],
)
def test_mistakes_show_where_they_are_made(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_the_output_of_a_dataset_is_known_or_an_error_says_what_is_missing() -> None:
    compose = transforms.Compose([transforms.RandomResizedCrop((8, 9)), transforms.ToDtype("float32", scale=True)])
    assert compose.output == ("float32", (3, 8, 9))
    grey = transforms.Compose([transforms.Resize((8, 9))], layout="NHWC", mode="L")
    assert grey.output == ("uint8", (8, 9, 1))
    with pytest.raises(ValueError, match=r"end with a crop .* or a Resize to a pair"):
        _ = transforms.Compose([transforms.Resize(256)]).output
    with pytest.raises(TypeError, match="Compose takes transforms of"):
        transforms.Compose([lambda picture: picture])  # type: ignore[list-item]
