"""From levels to numbers: equal to torchvision on tensors; erasing; layouts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as functional
from zenith import _engine, transforms

from tests.image.pictures import Array, noise

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FLOATS = [torch.float32, torch.float16, torch.bfloat16]


def tensor(picture: Array) -> torch.Tensor:
    return torch.from_numpy(picture).permute(2, 0, 1).contiguous()


def levels() -> Array:
    """All levels in all channels."""
    return np.stack([np.arange(256, dtype=np.uint8).reshape(8, 32)] * 3, axis=-1)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("scale", [False, True])
def test_numbers_are_torchvisions(dtype: torch.dtype, scale: bool) -> None:
    picture = tensor(levels())
    made = transforms.ToDtype(dtype, scale)(picture)
    expected = functional.to_dtype(picture, dtype, scale)
    assert made.dtype == dtype
    assert torch.equal(made, expected)
    made = transforms.Compose([transforms.ToDtype(dtype, scale), transforms.Normalize(MEAN, STD)])(picture)
    assert torch.equal(made, functional.normalize(expected, list(MEAN), list(STD)))


def test_one_dtype_after_another() -> None:
    picture = tensor(levels())
    steps = [transforms.ToDtype("uint8", True), transforms.ToDtype("float32", True), transforms.ToDtype(torch.bfloat16)]
    expected = functional.to_dtype(functional.to_dtype(picture, torch.float32, True), torch.bfloat16)
    assert torch.equal(transforms.Compose(steps)(picture), expected)


def test_arrays_keep_their_layout() -> None:
    picture = noise(6, 7)
    compose = transforms.Compose(
        [transforms.ToDtype(np.float32, scale=True), transforms.Normalize(0.5, (1.0, 2.0, 4.0))]
    )
    expected = (picture / np.float32(255) - np.float32(0.5)) / np.asarray([1, 2, 4], np.float32)
    made = compose(picture)
    assert made.dtype == np.float32
    np.testing.assert_allclose(made, expected, atol=1e-7)
    grey = transforms.ToDtype("float16")(picture[:, :, 0])
    np.testing.assert_array_equal(grey, picture[:, :, 0].astype(np.float16))
    with pytest.raises(TypeError, match="numpy has no bfloat16"):
        transforms.ToDtype("bfloat16")(picture)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("flip", [0.0, 1.0])
@pytest.mark.parametrize("dtype", ["uint8", "float32", "bfloat16"])
def test_the_layout_of_a_dataset(layout: str, flip: float, dtype: str) -> None:
    """Straight from the engine, as a dataset has it."""
    picture = noise(9, 13)
    steps = [transforms.RandomHorizontalFlip(flip), transforms.Resize((5, 6)), transforms.ToDtype(dtype)]
    compose = transforms.Compose(steps, layout=layout)  # type: ignore[arg-type]
    engine = _engine.Transforms(compose.to_json())
    data, name, shape = engine.apply_pixels(picture.tobytes(), 9, 13, 0)
    made = torch.frombuffer(data, dtype=getattr(torch, name)).reshape(shape)
    expected = functional.resize(
        tensor(np.ascontiguousarray(picture[:, ::-1]) if flip else picture), [5, 6], antialias=True
    )
    assert (name, tuple(shape)) == (dtype, compose.output[1])
    made = made if layout == "NCHW" else made.permute(2, 0, 1)
    # torch rounds its own resize otherwise.
    assert (made.float() - expected.float()).abs().max() <= 1


def test_normalize_takes_floats_by_itself() -> None:
    picture = functional.to_dtype(tensor(levels()), torch.float32, True)
    normalize = transforms.Normalize(MEAN, STD)
    assert torch.equal(normalize(picture), functional.normalize(picture, list(MEAN), list(STD)))
    array = picture.permute(1, 2, 0).numpy()
    np.testing.assert_allclose(normalize(array), normalize(picture).permute(1, 2, 0).numpy(), atol=1e-6)
    for levels_ in (tensor(levels()), levels()):
        with pytest.raises(TypeError, match=r"Normalize takes floats, got .*uint8"):
            normalize(levels_)


def erased(picture: torch.Tensor, key: int, **arguments: Any) -> torch.Tensor:
    compose = transforms.Compose(
        [
            transforms.ToDtype(torch.float32, scale=True),
            transforms.Normalize(MEAN, STD),
            transforms.RandomErasing(p=1.0, **arguments),
        ]
    )
    made: torch.Tensor = compose(picture, key)
    return made


def test_erasing_writes_one_rectangle() -> None:
    picture = tensor(noise(40, 50))
    plain = functional.normalize(functional.to_dtype(picture, torch.float32, True), list(MEAN), list(STD))
    for key in range(50):
        made = erased(picture, key, value=(7.0, 8.0, 9.0))
        for channel, value in enumerate((7.0, 8.0, 9.0)):
            y, x = torch.where(made[channel] == value)
            part = (slice(int(y.min()), int(y.max()) + 1), slice(int(x.min()), int(x.max()) + 1))
            assert (made[channel][part] == value).all()
            expected = plain[channel].clone()
            expected[part] = value
            assert torch.equal(made[channel], expected)


def test_erasing_with_noise() -> None:
    picture = tensor(np.zeros((200, 200, 3), np.uint8))
    plain = erased(picture, 0, scale=(0.0, 0.0))
    values = torch.cat([made[made != plain] for made in (erased(picture, key, value="random") for key in range(10))])
    assert abs(float(values.mean())) < 0.02
    assert abs(float(values.std()) - 1) < 0.02
    assert float((values**4).mean()) == pytest.approx(3, abs=0.2)


def test_erasing_levels() -> None:
    picture = noise(30, 30)
    made = transforms.RandomErasing(p=1.0, value=200)(picture, key=3)
    changed = (made != picture).any(axis=2)
    y, x = np.where(changed)
    assert (made[y.min() : y.max() + 1, x.min() : x.max() + 1] == 200).all()
    np.testing.assert_array_equal(transforms.RandomErasing(p=0.0)(picture), picture)


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([transforms.Normalize(MEAN, STD)], r"put ToDtype\(\"float32\", scale=True\) before it"),
        ([transforms.ToDtype("float32"), transforms.Resize(3)], "Resize works on uint8; put it before ToDtype"),
        ([transforms.RandomErasing(value="random")], "behind ToDtype"),
        (
            [transforms.RandomErasing(value=0.5), transforms.RandomErasing(value=-1)],
            "RandomErasing: value must be in 0..=255",
        ),
        ([transforms.ToDtype("float32"), transforms.ToDtype("uint8")], "cannot become uint8 again"),
        (
            [transforms.ToDtype("float32"), transforms.RandomErasing(), transforms.Normalize(MEAN, STD)],
            "Normalize must come before RandomErasing",
        ),
    ],
)
def test_orders_that_make_no_sense_are_refused(steps: list[transforms.Transform], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        transforms.Compose(steps)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: transforms.ToDtype("float64"), "ToDtype: dtype must be"),
        (lambda: transforms.Normalize(0.5, 0.0), "Normalize: std must not be 0"),
        (lambda: transforms.Normalize((0.5, 0.5), 1.0), "Normalize: mean must be a number or 3"),
        (lambda: transforms.RandomErasing(value="noise"), "RandomErasing: value must be"),
        (lambda: transforms.RandomErasing(scale=(0.0, 1.5)), "RandomErasing: scale must be"),
    ],
)
def test_mistakes_show_where_they_are_made(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
