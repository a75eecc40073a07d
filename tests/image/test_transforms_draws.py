"""What is random: distributed as torchvision's, and a function of the key alone."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
import torchvision.transforms.v2 as vision
from zenith import _engine, transforms

from tests.image.pictures import Array, noise

DRAWS = 4000


def parts(transform: transforms.Transform, height: int, width: int) -> Array:
    """x, y, width, height of what the engine takes, for many keys."""
    engine = _engine.Transforms(transform.to_json())
    views = [json.loads(engine.view(height, width, key))["source"] for key in range(DRAWS)]
    return np.asarray([[part["x"], part["y"], part["width"], part["height"]] for part in views])


def theirs(transform: Any, height: int, width: int, names: list[str]) -> Array:
    torch.manual_seed(11)
    picture = torch.empty(3, height, width, dtype=torch.uint8)
    drawn = (transform.make_params([picture]) for _ in range(DRAWS))
    return np.asarray([[parameters[name] for name in names] for parameters in drawn])


def assert_same_distribution(ours: Array, peers: Array) -> None:
    """Kolmogorov and Smirnov for two samples: beyond the bound once in a thousand, where the distributions are equal."""
    values = np.unique(np.concatenate([ours, peers]))
    below = [np.searchsorted(np.sort(sample), values, side="right") / len(sample) for sample in (ours, peers)]
    assert np.abs(below[0] - below[1]).max() < 1.95 * math.sqrt(2 / DRAWS)


@pytest.mark.parametrize(
    ("shape", "arguments"),
    [
        ((375, 500), {}),
        ((500, 375), {"scale": (0.4, 0.6), "ratio": (0.5, 2.0)}),
        ((30, 400), {}),
        ((64, 64), {"scale": (0.9, 1.0)}),
    ],
)
def test_random_resized_crops_are_distributed_as_torchvisions(
    shape: tuple[int, int], arguments: dict[str, Any]
) -> None:
    ours = parts(transforms.RandomResizedCrop(8, **arguments), *shape)
    peers = theirs(vision.RandomResizedCrop(8, **arguments), *shape, ["left", "top", "width", "height"])
    for column in range(4):
        assert_same_distribution(ours[:, column], peers[:, column])
    assert_same_distribution(ours[:, 2] * ours[:, 3], peers[:, 2] * peers[:, 3])
    assert_same_distribution(ours[:, 2] / ours[:, 3], peers[:, 2] / peers[:, 3])


def test_random_crops_lie_everywhere_as_often() -> None:
    ours = parts(transforms.RandomCrop((25, 36)), 32, 40)[:, :2]
    counts = np.zeros((5, 8))
    np.add.at(counts, (ours[:, 0], ours[:, 1]), 1)
    expected = DRAWS / counts.size
    # Chi-square with 39 degrees of freedom: above 72.1 once in a thousand.
    assert ((counts - expected) ** 2 / expected).sum() < 72.1


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("make", [transforms.RandomHorizontalFlip, transforms.RandomVerticalFlip])
def test_flips_come_as_often_as_they_should(make: Callable[[float], transforms.Transform], p: float) -> None:
    engine = _engine.Transforms(make(p).to_json())
    axis = "flip_x" if make is transforms.RandomHorizontalFlip else "flip_y"
    count = sum(json.loads(engine.view(4, 4, key))[axis] for key in range(DRAWS))
    assert abs(count - p * DRAWS) < 3.3 * math.sqrt(DRAWS * p * (1 - p))


def test_erased_rectangles_are_distributed_as_torchvisions() -> None:
    shape = (60, 80)
    erasing = transforms.RandomErasing(p=1.0, value=255)
    black = np.zeros((*shape, 1), np.uint8)
    ours = []
    for key in range(DRAWS):
        y, x = np.where(erasing(black, key)[:, :, 0])
        ours.append([x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1] if len(x) else [0, 0, 0, 0])
    peers = theirs(vision.RandomErasing(p=1.0), *shape, ["j", "i", "w", "h"])
    for column in range(4):
        assert_same_distribution(np.asarray(ours)[:, column], peers[:, column])


def test_jitter_factors_are_uniform() -> None:
    """A level of 100 tells the factor by one part in a hundred."""
    flat = np.full((1, 1, 3), 100, np.uint8)
    jitter = transforms.ColorJitter(brightness=(0.5, 1.5))
    ours = np.asarray([int(jitter(flat, key)[0, 0, 0]) for key in range(DRAWS)])
    torch.manual_seed(3)
    assert_same_distribution(ours, (100 * (0.5 + torch.rand(DRAWS).numpy())).astype(int))


def test_sigmas_are_uniform() -> None:
    """A single bright pixel tells the sigma by what is left of it."""
    dot = np.zeros((9, 9, 1), np.uint8)
    dot[4, 4] = 255
    blur = transforms.GaussianBlur(9, (0.5, 2.0))
    ours = np.asarray([int(blur(dot, key)[4, 4, 0]) for key in range(DRAWS)])
    torch.manual_seed(4)
    sigmas = 0.5 + 1.5 * torch.rand(DRAWS)
    peers = [int(transforms.GaussianBlur(9, float(sigma))(dot)[4, 4, 0]) for sigma in sigmas]
    assert_same_distribution(ours, np.asarray(peers))


EVERYTHING = transforms.Compose(
    [
        transforms.RandomResizedCrop(24),
        transforms.RandomHorizontalFlip(),
        transforms.ColorJitter(0.4, 0.4, 0.4, 0.1),
        transforms.RandomGrayscale(0.3),
        transforms.GaussianBlur(3),
        transforms.RandAugment(),
        transforms.TrivialAugmentWide(),
        transforms.AutoAugment(),
        transforms.RandomCrop(20),
        transforms.ToDtype("float32", scale=True),
        transforms.RandomErasing(value="random"),
    ]
)


def test_the_same_key_gives_the_same_value_in_any_thread() -> None:
    picture = noise(40, 50)
    expected = [EVERYTHING(picture, key) for key in range(200)]
    with ThreadPoolExecutor(8) as threads:
        for again in range(3):
            keys = np.random.default_rng(again).permutation(200)
            for key, made in zip(keys, threads.map(lambda key: EVERYTHING(picture, int(key)), keys), strict=True):
                np.testing.assert_array_equal(made, expected[key])
    # Some are all black: shifted out of sight.
    assert len({made.tobytes() for made in expected}) > 190


def test_one_more_transform_does_not_change_what_others_draw() -> None:
    crop, flip = transforms.RandomCrop(8), transforms.RandomHorizontalFlip()
    first = parts(transforms.Compose([crop]), 20, 20)
    np.testing.assert_array_equal(parts(transforms.Compose([crop, flip]), 20, 20)[:, 2:], first[:, 2:])
    engines = [_engine.Transforms(transforms.Compose(steps).to_json()) for steps in ([crop], [crop, flip])]
    for key in range(200):
        alone, both = (json.loads(engine.view(20, 20, key)) for engine in engines)
        assert alone["source"] == both["source"]


def test_without_a_key_torch_decides() -> None:
    picture = noise(40, 40)
    crop = transforms.RandomCrop(8)
    torch.manual_seed(1)
    first = [crop(picture).tobytes() for _ in range(5)]
    torch.manual_seed(1)
    assert [crop(picture).tobytes() for _ in range(5)] == first
    assert len(set(first)) > 1
