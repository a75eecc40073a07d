"""What changes levels: equal to torchvision on PIL images, given the same parameters."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torchvision.transforms.v2 as vision
import torchvision.transforms.v2.functional as functional
from hypothesis import given, settings
from hypothesis import strategies as some
from PIL import Image
from zenith import transforms

from tests.image.pictures import Array, all_colours, noise, scene

FACTORS = [0.0, 0.3, 0.77, 1.0, 1.5, 2.9]
TURNS = [-0.5, -0.21, 0.0, 0.1, 0.33, 0.5]


def pil(picture: Array) -> Image.Image:
    return Image.fromarray(picture)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_jitter_is_image_enhance(name: str, factor: float, channels: int) -> None:
    for picture in (all_colours(), scene(100, 120)):
        picture = picture if channels == 3 else picture[:, :, 0]
        expected = getattr(functional, f"adjust_{name}")(pil(picture), factor)
        made = transforms.ColorJitter(**{name: (factor, factor)})(picture)  # type: ignore[arg-type]
        np.testing.assert_array_equal(made, np.asarray(expected))


@pytest.mark.parametrize("turns", TURNS)
def test_the_hue_turns_in_pillows_hsv(turns: float) -> None:
    picture = all_colours(3)
    made = transforms.ColorJitter(hue=(turns, turns))(picture)
    np.testing.assert_array_equal(made, np.asarray(functional.adjust_hue(pil(picture), turns)))


def test_jitter_comes_in_any_order() -> None:
    """Which of the 24 orders a key draws shows in the result; all are drawn, and each about as often."""
    picture = scene(40, 40)
    factors = {"brightness": 1.4, "contrast": 0.6, "saturation": 1.7, "hue": 0.2}
    results = {}
    for order in itertools.permutations(factors):
        image = pil(picture)
        for name in order:
            image = getattr(functional, f"adjust_{name}")(image, factors[name])
        results[np.asarray(image).tobytes()] = order
    assert len(results) == 24
    jitter = transforms.ColorJitter(**{name: (factor, factor) for name, factor in factors.items()})  # type: ignore[arg-type]
    counts = dict.fromkeys(results.values(), 0)
    for key in range(2400):
        counts[results[jitter(picture, key).tobytes()]] += 1
    # Chi-square with 23 degrees of freedom: above 49.7 once in a thousand.
    assert sum((count - 100) ** 2 / 100 for count in counts.values()) < 49.7


def test_one_number_is_a_range() -> None:
    """Levels of a flat picture tell the factor: 0 to 2 for a brightness of 3, 0.9 to 1.1 for one of 0.1."""
    flat = np.full((1, 1, 3), 100, np.uint8)
    for reach, low, high in [(3.0, 0, 255), (0.1, 90, 110)]:
        levels = [int(transforms.ColorJitter(brightness=reach)(flat, key)[0, 0, 0]) for key in range(400)]
        assert low <= min(levels) <= low + 5
        assert high - 5 <= max(levels) <= high


def test_greys_are_pillows() -> None:
    picture = all_colours(3)
    expected = np.asarray(functional.rgb_to_grayscale(pil(picture), 3))
    np.testing.assert_array_equal(transforms.RandomGrayscale(1.0)(picture), expected)
    np.testing.assert_array_equal(transforms.RandomGrayscale(0.0)(picture), picture)


@pytest.mark.parametrize(("kernel", "sigma"), [(1, 1.0), (3, 0.5), ((5, 9), 1.3), (23, 2.0), (9, 0.1)])
@pytest.mark.parametrize("channels", [1, 3])
def test_blurring_is_torchvisions_within_a_level(kernel: Any, sigma: float, channels: int) -> None:
    for picture in (noise(60, 71, channels), scene(60, 71, channels)):
        sizes = [kernel, kernel] if isinstance(kernel, int) else list(kernel)
        expected = np.asarray(functional.gaussian_blur(pil(picture), sizes, [sigma, sigma]))
        made = transforms.GaussianBlur(kernel, sigma)(picture)
        difference = np.abs(made.astype(int) - expected)
        # They differ where a sum lies so close to half a level that its order decides.
        assert difference.max() <= 1
        assert np.mean(difference > 0) < 1e-3


def operations(height: int, width: int, magnitudes: dict[str, float]) -> dict[str, Any]:
    """torchvision's own doing of each operation, in both directions where there are two."""
    auto: Any = vision.RandAugment()
    found = {}
    for name, magnitude in magnitudes.items():
        signs = [1, -1] if auto._AUGMENTATION_SPACE.get(name, (None, False))[1] else [1]
        for sign in signs:
            found[f"{name} {sign}"] = (name, sign * magnitude)
    del height, width
    return found


def strengths(kind: Any, bin_: int, bins: int, height: int, width: int) -> dict[str, float]:
    found = {}
    for name, (strength, _) in kind._AUGMENTATION_SPACE.items():
        values = strength(bins, height, width)
        found[name] = 0.0 if values is None else float(values[bin_])
    return found


def results(picture: Array, magnitudes: dict[str, float], interpolation: str, fill: Any) -> dict[bytes, set[str]]:
    auto: Any = vision.RandAugment(interpolation=vision.InterpolationMode(interpolation), fill=fill)
    found: dict[bytes, set[str]] = {}
    for label, (name, magnitude) in operations(*picture.shape[:2], magnitudes).items():
        made = auto._apply_image_or_video_transform(pil(picture), name, magnitude, auto.interpolation, auto._fill)
        found.setdefault(np.asarray(made).tobytes(), set()).add(label)
    return found


@pytest.mark.parametrize("fill", [None, (10, 200, 30)])
@pytest.mark.parametrize("magnitude", [0, 3, 9, 17, 30])
@pytest.mark.parametrize("shape", [(50, 61), (32, 32), (75, 40)])
def test_rand_augment_does_what_torchvision_does(shape: tuple[int, int], magnitude: int, fill: Any) -> None:
    picture = scene(*shape)
    expected = results(picture, strengths(vision.RandAugment, magnitude, 31, *shape), "nearest", fill)
    augment = transforms.RandAugment(num_ops=1, magnitude=magnitude, fill=fill)
    seen = set()
    for key in range(300):
        made = augment(picture, key).tobytes()
        assert made in expected, key
        seen |= expected[made]
    assert len(seen) == 23, "14 operations, 9 of them in two directions"


@given(some.integers(1, 64), some.integers(1, 64), some.integers(0, 30), some.sampled_from([1, 3]))
@settings(max_examples=60, deadline=None)
def test_pictures_of_any_size_are_augmented_as_torchvisions(
    height: int, width: int, magnitude: int, channels: int
) -> None:
    picture = noise(height, width, channels)
    expected = results(picture, strengths(vision.RandAugment, magnitude, 31, height, width), "nearest", None)
    augment = transforms.RandAugment(num_ops=1, magnitude=magnitude)
    assert all(augment(picture, key).tobytes() in expected for key in range(40))


def test_each_operation_is_drawn_as_often() -> None:
    picture = scene(48, 48)
    expected = results(picture, strengths(vision.RandAugment, 9, 31, 48, 48), "nearest", None)
    assert all(len(labels) == 1 for labels in expected.values())
    augment = transforms.RandAugment(num_ops=1)
    counts: dict[str, int] = {}
    for key in range(2800):
        (label,) = expected[augment(picture, key).tobytes()]
        name = label.split()[0]
        counts[name] = counts.get(name, 0) + 1
    # Chi-square with 13 degrees of freedom: above 34.5 once in a thousand.
    assert len(counts) == 14
    assert sum((count - 200) ** 2 / 200 for count in counts.values()) < 34.5


def test_bilinear_augmentation_is_torchvisions() -> None:
    picture = scene(50, 61)
    expected = results(picture, strengths(vision.RandAugment, 9, 31, 50, 61), "bilinear", None)
    augment = transforms.RandAugment(num_ops=1, interpolation="bilinear")
    assert all(augment(picture, key).tobytes() in expected for key in range(300))


def test_trivial_augment_does_what_torchvision_does() -> None:
    picture = scene(40, 52)
    expected: dict[bytes, set[str]] = {}
    for bin_ in range(31):
        strength = strengths(vision.TrivialAugmentWide, bin_, 31, 40, 52)
        for made, labels in results(picture, strength, "nearest", None).items():
            expected.setdefault(made, set()).update(f"{label} {bin_}" for label in labels)
    augment = transforms.TrivialAugmentWide()
    made_all = {augment(picture, key).tobytes() for key in range(1500)}
    assert made_all <= expected.keys()
    assert len(made_all) > 0.8 * len(expected)


@pytest.mark.parametrize("policy", list(vision.AutoAugmentPolicy))
def test_auto_augment_does_what_torchvision_does(policy: Any) -> None:
    """Every result is one of those that torchvision's policy can give, and nearly all of them are met."""
    picture = scene(24, 30)
    auto: Any = vision.AutoAugment(policy)

    def after(image: Image.Image, part: tuple[str, float, int | None]) -> list[Image.Image]:
        name, probability, bin_ = part
        strength, signed = auto._AUGMENTATION_SPACE[name]
        values = strength(10, 24, 30)
        magnitude = 0.0 if values is None else float(values[bin_])
        signs = [1, -1] if signed and values is not None else [1]
        made = [
            auto._apply_image_or_video_transform(image, name, s * magnitude, auto.interpolation, auto._fill)
            for s in signs
        ]
        kept = [image] if probability < 1 else []
        return kept + (made if probability > 0 else [])

    expected = set()
    for first, second in auto._policies:
        for image in after(pil(picture), first):
            expected |= {np.asarray(made).tobytes() for made in after(image, second)}
    augment = transforms.AutoAugment(policy)
    made_all = {augment(picture, key).tobytes() for key in range(3000)}
    assert made_all <= expected
    assert len(made_all) > 0.9 * len(expected)


def test_augmentations_of_greys() -> None:
    picture = scene(30, 30, 1)
    for augment in (transforms.RandAugment(), transforms.AutoAugment(), transforms.TrivialAugmentWide()):
        assert all(augment(picture, key).shape == (30, 30) for key in range(100))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: transforms.ColorJitter(brightness=-1), "brightness as one number must not be negative"),
        (lambda: transforms.ColorJitter(hue=0.6), "ColorJitter: hue must be"),
        (lambda: transforms.ColorJitter(contrast=(2, 1)), "ColorJitter: contrast must be"),
        (lambda: transforms.GaussianBlur(4), "GaussianBlur: kernel_size must be odd"),
        (lambda: transforms.GaussianBlur(3, 0), "GaussianBlur: sigma must be"),
        (lambda: transforms.RandAugment(magnitude=31), "RandAugment: magnitude must be in 0..num_magnitude_bins"),
        (lambda: transforms.RandAugment(num_ops=-1), "RandAugment: num_ops must be"),
        (lambda: transforms.TrivialAugmentWide(1), "TrivialAugmentWide: num_magnitude_bins must be"),
        (lambda: transforms.AutoAugment("mnist"), "AutoAugment .*unknown variant `mnist`"),
        (lambda: transforms.RandomGrayscale(math.nan), "."),
    ],
)
def test_mistakes_show_where_they_are_made(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_a_kernel_larger_than_the_picture_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"GaussianBlur: kernel_size 9 × 9 .* too large"):
        transforms.GaussianBlur(9)(noise(4, 40))
