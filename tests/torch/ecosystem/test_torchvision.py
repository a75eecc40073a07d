"""torchvision: ``ImageFolder`` over PNG and JPEG files, with random transforms in the workers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ecosystem_samples import LOADERS
from PIL import Image
from torchvision import datasets, tv_tensors
from torchvision.transforms import v2

CLASSES, EACH = 3, 7


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    for label in range(CLASSES):
        (root / f"class{label}").mkdir()
        for number in range(EACH):
            size = (int(random.integers(40, 60)), int(random.integers(40, 60)), 3)
            suffix = "png" if number % 2 else "jpg"
            image = Image.fromarray(random.integers(0, 256, size, dtype=np.uint8))
            image.save(root / f"class{label}" / f"{number}.{suffix}")
    return root


def assert_same(batches: dict[str, list[Any]]) -> None:
    for torchs, ours in zip(batches["torch"], batches["zenith"], strict=True):
        assert type(ours) is type(torchs) is list
        for one, other in zip(ours, torchs, strict=True):
            assert type(one) is type(other)
            assert torch.equal(one, other)


def test_random_crops_are_the_same_pixels(folder: Path, workers: int) -> None:
    transform = v2.Compose(
        [v2.ToImage(), v2.RandomResizedCrop(24), v2.RandomHorizontalFlip(), v2.ToDtype(torch.float32, scale=True)]
    )
    batches = {}
    for name, loader_class in LOADERS.items():
        torch.manual_seed(8)
        dataset = datasets.ImageFolder(str(folder), transform)
        loader = loader_class(dataset, batch_size=4, shuffle=True, num_workers=workers)
        batches[name] = [batch for _ in range(2) for batch in loader]
    assert batches["torch"][0][0].shape == (4, 3, 24, 24)
    assert not torch.equal(batches["torch"][0][0], batches["torch"][6][0])
    assert_same(batches)


class Boxes(torch.utils.data.Dataset[Any]):
    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> Any:
        box = tv_tensors.BoundingBoxes(torch.tensor([[index, 0, 9, 9]]), format="XYXY", canvas_size=(10, 10))
        return tv_tensors.Image(torch.full((3, 8, 8), index, dtype=torch.uint8)), box


def test_tv_tensors(workers: int) -> None:
    batches = {name: list(loader(Boxes(), batch_size=4, num_workers=workers)) for name, loader in LOADERS.items()}
    assert_same(batches)
