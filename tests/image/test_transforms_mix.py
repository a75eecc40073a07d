"""MixUp and CutMix: torchvision's, given the same parameters, and drawn from the same distributions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torchvision.transforms.v2 as vision
from zenith import _engine, transforms

IMAGES = torch.rand(6, 3, 10, 12, generator=torch.Generator().manual_seed(1))
LABELS = torch.tensor([0, 3, 1, 2, 3, 0])


def theirs(
    kind: Any, images: torch.Tensor, labels: torch.Tensor, **parameters: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    mix = kind(num_classes=4 if labels.ndim == 1 else None)
    mix.make_params = lambda flat_inputs: parameters
    made: tuple[torch.Tensor, torch.Tensor] = mix(images, labels)
    return made


@pytest.mark.parametrize("labels", [LABELS, torch.rand(6, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_mix_up_is_torchvisions(labels: torch.Tensor, dtype: torch.dtype) -> None:
    mix = transforms.MixUp(alpha=0.4, num_classes=4)
    for key in range(20):
        own = _engine.draw_mix_up(0.4, key)
        images, shares = mix(IMAGES.to(dtype), labels, key)
        expected = theirs(vision.MixUp, IMAGES.to(dtype), labels, lam=own)
        assert torch.equal(images, expected[0])
        assert torch.equal(shares, expected[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_cut_mix_is_torchvisions(dtype: torch.dtype) -> None:
    mix = transforms.CutMix(num_classes=4)
    pictures = (255 * IMAGES).to(dtype)
    for key in range(20):
        (x, y, width, height), own = _engine.draw_cut_mix(1.0, 10, 12, key)
        images, shares = mix(pictures, LABELS, key)
        box = (x, y, x + width, y + height)
        expected = theirs(vision.CutMix, pictures, LABELS, box=box, lam_adjusted=own)
        assert torch.equal(images, expected[0])
        assert torch.equal(shares, expected[1])
        assert torch.equal(pictures, (255 * IMAGES).to(dtype)), "the given batch is left alone"


def test_arrays_and_layouts() -> None:
    mix = transforms.CutMix(num_classes=4, layout="NHWC")
    images, shares = mix(IMAGES.permute(0, 2, 3, 1).numpy(), LABELS.numpy(), 5)
    expected = transforms.CutMix(num_classes=4)(IMAGES, LABELS, 5)
    np.testing.assert_array_equal(images, expected[0].permute(0, 2, 3, 1).numpy())
    np.testing.assert_array_equal(shares, expected[1].numpy())
    images, shares = transforms.MixUp(num_classes=4)(IMAGES.numpy(), LABELS.numpy(), 5)
    expected = transforms.MixUp(num_classes=4)(IMAGES, LABELS, 5)
    np.testing.assert_allclose(images, expected[0].numpy(), atol=1e-6)
    np.testing.assert_allclose(shares, expected[1].numpy(), atol=1e-6)
    assert images.dtype == shares.dtype == np.float32


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_shares_are_distributed_as_torchs(alpha: float) -> None:
    count = 20_000
    # torch draws float32, which ends where much of a small alpha's weight lies.
    seen = [1e-6, 1 - 1e-6]
    ours = np.sort(np.clip([_engine.draw_mix_up(alpha, key) for key in range(count)], *seen))
    torch.manual_seed(2)
    peers = np.sort(np.clip(torch.distributions.Beta(alpha, alpha).sample((count,)).double().numpy(), *seen))
    values = np.concatenate([ours, peers])
    below = [np.searchsorted(sample, values, side="right") / count for sample in (ours, peers)]
    # Kolmogorov and Smirnov: beyond the bound once in a thousand.
    assert np.abs(below[0] - below[1]).max() < 1.95 * math.sqrt(2 / count)


def test_cut_rectangles_are_distributed_as_torchvisions() -> None:
    count = 4000
    drawn_here = (_engine.draw_cut_mix(1.0, 30, 40, key) for key in range(count))
    ours = np.asarray([(*part, own) for part, own in drawn_here])
    torch.manual_seed(5)
    mix: Any = vision.CutMix(num_classes=4)
    drawn = [mix.make_params([torch.empty(1, 3, 30, 40)]) for _ in range(count)]
    peers = np.asarray(
        [(x1, y1, x2 - x1, y2 - y1, it["lam_adjusted"]) for it in drawn for x1, y1, x2, y2 in [it["box"]]]
    )
    for column in range(5):
        values = np.concatenate([ours[:, column], peers[:, column]])
        below = [np.searchsorted(np.sort(sample[:, column]), values, side="right") / count for sample in (ours, peers)]
        assert np.abs(below[0] - below[1]).max() < 1.95 * math.sqrt(2 / count)


def test_keys_of_batches_differ() -> None:
    keys = {transforms.batch_key(seed, epoch, batch) for seed in range(5) for epoch in range(5) for batch in range(50)}
    assert len(keys) == 1250
    assert transforms.batch_key(1, 2, 3) == transforms.batch_key(1, 2, 3)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (IMAGES[0], LABELS, "takes a batch"),
        (IMAGES, LABELS[:3], "takes labels"),
        (IMAGES, torch.rand(6, 9), "the labels have 9"),
    ],
)
def test_batches_that_do_not_fit_are_refused(images: torch.Tensor, labels: torch.Tensor, message: str) -> None:
    for mix in (transforms.MixUp(num_classes=4), transforms.CutMix(num_classes=4)):
        with pytest.raises(ValueError, match=message):
            mix(images, labels)


def test_arguments_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="alpha must be above 0, got 0"):
        transforms.MixUp(alpha=0)
    with pytest.raises(ValueError, match="num_classes must be at least 1"):
        transforms.CutMix(num_classes=0)
    with pytest.raises(ValueError, match="layout must be"):
        transforms.CutMix(layout="HWC")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="needs num_classes"):
        transforms.MixUp()(IMAGES, LABELS)
    with pytest.raises(TypeError, match="MixUp takes pictures of floats"):
        transforms.MixUp(num_classes=4)((255 * IMAGES).to(torch.uint8), LABELS)
