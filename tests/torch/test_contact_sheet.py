"""`zenith_torch.show` saves what is in a batch, whatever its layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zenith_torch
from PIL import Image

GAP = 2


def picture(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def pixels(count: int = 5, channels: int = 3) -> torch.Tensor:
    return torch.randint(0, 256, (count, 9, 7, channels), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("layout", ["nhwc", "nchw", "channels_last", "float", "normalised"])
def test_every_layout_shows_the_same(layout: str, tmp_path: Path) -> None:
    images = pixels()
    options: dict[str, Any] = {}
    shown: torch.Tensor = images
    if layout != "nhwc":
        shown = images.permute(0, 3, 1, 2)
    if layout == "nchw":
        shown = shown.contiguous()
    if layout in ("float", "normalised"):
        shown = shown / 255
    if layout == "normalised":
        options = {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.4)}
        shown = (shown - torch.tensor(options["mean"]).view(3, 1, 1)) / torch.tensor(options["std"]).view(3, 1, 1)
    path = zenith_torch.show(shown, tmp_path / "sheet.png", columns=3, **options)
    sheet = picture(path)
    assert sheet.shape == (2 * (9 + GAP) + GAP, 3 * (7 + GAP) + GAP, 3)
    for number, image in enumerate(images):
        y, x = GAP + number // 3 * (9 + GAP), GAP + number % 3 * (7 + GAP)
        assert np.abs(sheet[y : y + 9, x : x + 7].astype(int) - image.numpy()).max() <= (layout == "normalised")


def test_images_and_labels_are_found_in_a_batch(tmp_path: Path) -> None:
    batch = {"__key__": ["a", "b"], "jpg": pixels(2), "cls": torch.tensor([3, 4])}
    plain = picture(zenith_torch.show(batch["jpg"], tmp_path / "plain.png"))
    labelled = picture(zenith_torch.show(batch, tmp_path / "labelled.png"))
    assert labelled.shape[0] > plain.shape[0]
    by_key = picture(zenith_torch.show(batch, tmp_path / "keys.png", labels="__key__", count=1))
    assert by_key.shape[1] < labelled.shape[1]
    grey = picture(zenith_torch.show([torch.arange(2), pixels(2, 1)], tmp_path / "grey.png"))
    assert (grey[..., 0] == grey[..., 1]).all()


@pytest.mark.parametrize(
    ("batch", "options", "text"),
    [
        ({"x": torch.zeros(3, 5)}, {}, "no images in the batch"),
        ({"x": pixels()}, {"field": "y"}, "has no 'y'"),
        ({"x": torch.zeros(3, 5)}, {"field": "x"}, "holds no images"),
        (pixels(), {"columns": 0}, "must be >= 1"),
        ("text", {}, "got str"),
    ],
)
def test_what_cannot_be_shown_is_told(batch: Any, options: dict[str, Any], text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=text):
        zenith_torch.show(batch, tmp_path / "sheet.png", **options)
