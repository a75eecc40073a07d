"""A small image classifier on tar shards: `python -m examples.images` (needs `pip install pillow scikit-image scikit-learn`).

Cuts crops out of the photographs that those two packages ship, writes them as WebDataset shards, and learns to tell which
photograph a crop is from: the left two thirds of each are for training, the rest for validation. Saves what the model sees,
augmented and normalised, as `images.png`.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zenith
import zenith_torch
from PIL import Image
from torch import nn
from zenith import transforms as t

PHOTOGRAPHS = (
    ("skimage", "data/astronaut.png"),
    ("skimage", "data/chelsea.png"),
    ("skimage", "data/coffee.png"),
    ("skimage", "data/hubble_deep_field.jpg"),
    ("skimage", "data/ihc.png"),
    ("skimage", "data/motorcycle_left.png"),
    ("skimage", "data/retina.jpg"),
    ("skimage", "data/rocket.jpg"),
    ("sklearn", "datasets/images/china.jpg"),
    ("sklearn", "datasets/images/flower.jpg"),
)
SIDE, CROP = 72, 48
TRAIN_CROPS, VALIDATION_CROPS = 96, 48
SHARDS = 4
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
BATCH, EPOCHS = 64, 10

TRAIN = t.Compose(
    [
        t.RandomResizedCrop(CROP, scale=(0.4, 1.0)),
        t.RandomHorizontalFlip(),
        t.ToDtype("float32", scale=True),
        t.Normalize(MEAN, STD),
    ]
)
VALIDATE = t.Compose(
    [t.Resize(56), t.CenterCrop(CROP), t.ToDtype("float32", scale=True), t.Normalize(MEAN, STD)],
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.images", description=__doc__)
    parser.add_argument(
        "--sheet", default="images.png", help="where the picture of a batch goes (default: %(default)s)"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        train, validation = loaders(folder)
        print(train.explain())
        print("what the model sees:", zenith_torch.show(next(iter(train)), arguments.sheet, mean=MEAN, std=STD))
        accuracy = fit(train, validation, verbose=True)
    if accuracy < 0.6:
        raise SystemExit(f"an accuracy of {accuracy:.2f} is less than this network reaches")


def loaders(folder: str) -> tuple[Any, Any]:
    """Of the shards that `write` wrote there: batches of ``jpg`` [n, 3, 48, 48] float32 and ``cls`` [n] int64."""
    fields = {"jpg": TRAIN, "cls": int}
    train = zenith_torch.DataLoader(
        zenith.WebDataset(f"{folder}/train-*.tar", fields=fields), batch_size=BATCH, shuffle=True, num_workers=2, seed=1
    )
    validation = zenith_torch.DataLoader(
        zenith.WebDataset(f"{folder}/validation-*.tar", fields={**fields, "jpg": VALIDATE}),
        batch_size=256,
        num_workers=2,
    )
    return train, validation


def fit(train: Any, validation: Any, verbose: bool = False) -> float:
    """The share of validation crops that a small network gets right in the end."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for before, after in ((3, 16), (16, 32), (32, 64)):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2)]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, len(PHOTOGRAPHS)))
    optimizer = torch.optim.Adam(model.parameters(), 0.005)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    accuracy = 0.0
    for epoch in range(EPOCHS):
        model.train()
        for batch in train:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(batch["jpg"]), batch["cls"])
            loss.backward()
            optimizer.step()
        schedule.step()
        model.eval()
        with torch.no_grad():
            right = [(model(batch["jpg"]).argmax(1) == batch["cls"]).float() for batch in validation]
        accuracy = float(torch.cat(right).mean())
        if verbose:
            print(f"epoch {epoch}: accuracy on crops of unseen parts {accuracy:.3f}")
    return accuracy


def write(folder: Path) -> None:
    """Writes `train-*.tar` and `validation-*.tar` there."""
    random = np.random.default_rng(0)
    photographs = [photograph(package, path) for package, path in PHOTOGRAPHS]
    for image in photographs:
        image.thumbnail((640, 640))
    for part, crops in (("train", TRAIN_CROPS), ("validation", VALIDATION_CROPS)):
        labels = random.permutation(np.repeat(np.arange(len(photographs)), crops))
        for shard, numbers in enumerate(np.array_split(np.arange(len(labels)), SHARDS)):
            with tarfile.open(folder / f"{part}-{shard}.tar", "w") as tar:
                for number in numbers:
                    label = int(labels[number])
                    add(tar, f"{number:05}.jpg", jpeg(photographs[label], part, random))
                    add(tar, f"{number:05}.cls", str(label).encode())


def photograph(package: str, path: str) -> Image.Image:
    """One of `PHOTOGRAPHS`, in RGB."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("the photographs come with two packages: pip install scikit-image scikit-learn")
    return Image.open(Path(spec.submodule_search_locations[0], path)).convert("RGB")


def jpeg(image: Image.Image, part: str, random: np.random.Generator) -> bytes:
    border = image.width * 2 // 3
    left, right = (0, border) if part == "train" else (border, image.width)
    x, y = random.integers(left, right - SIDE + 1), random.integers(image.height - SIDE + 1)
    file = io.BytesIO()
    image.crop((int(x), int(y), int(x) + SIDE, int(y) + SIDE)).save(file, "JPEG", quality=90)
    return file.getvalue()


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


if __name__ == "__main__":
    main()
