"""How close Zenith's pictures are to PIL's and torchvision's: `python -m benchmarks.fidelity` prints what docs/fidelity.md says.

Photographs of scikit-image and scikit-learn, encoded in several ways, decoded and transformed by Zenith and by the reference.
Ends with exit status 1 where a bound is missed.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.utils.data
import torchvision.transforms.v2 as vision
import zenith
from PIL import Image
from zenith import _engine
from zenith import transforms as t

from examples.images import (
    BATCH,
    CROP,
    MEAN,
    PHOTOGRAPHS,
    STD,
    fit,
    loaders,
    photograph,
    write,
)

ENCODINGS: dict[str, dict[str, Any]] = {
    "4:2:0, quality 75": {"quality": 75, "subsampling": "4:2:0"},
    "4:2:0, quality 92": {"quality": 92, "subsampling": "4:2:0"},
    "4:2:2, quality 85": {"quality": 85, "subsampling": "4:2:2"},
    "4:4:4, quality 95": {"quality": 95, "subsampling": "4:4:4"},
    "4:2:0, progressive": {"quality": 90, "subsampling": "4:2:0", "progressive": True},
}
SHARE_MIN, LEVELS_MAX = 0.999, 3
"""Of all values so many within one level of the reference, and none further away than this."""
FAST_PSNR_MIN_DB = 30.0
DRAWS = 4000
KS_BOUND = 1.95 * math.sqrt(2 / DRAWS)
"""Kolmogorov and Smirnov's distance of two samples of `DRAWS`, beyond which equal distributions come once in a thousand."""
ACCURACY_GAP_MAX = 0.06

Reference = Callable[[Image.Image], np.ndarray]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fidelity", description=__doc__)
    parser.add_argument("--no-training", action="store_true", help="leave out the two training runs (a minute)")
    arguments = parser.parse_args()
    photographs = [photograph(package, path) for package, path in PHOTOGRAPHS]
    rows = [*pixel_rows(photographs), *fast_rows(photographs), *draw_rows()]
    if not arguments.no_training:
        rows.append(training_row())
    print("| what | reference | measured | bound | |\n|---|---|--:|--:|---|")
    for what, reference, measured, bound, is_met in rows:
        print(f"| {what} | {reference} | {measured} | {bound} | {'met' if is_met else 'MISSED'} |")
    return 0 if all(row[-1] for row in rows) else 1


def ours(files: list[bytes], transforms: t.Transform) -> list[np.ndarray]:
    """What a dataset delivers of these files: [h, w, 3] each."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "one").mkdir()
        for number, content in enumerate(files):
            (Path(folder) / "one" / f"{number:04}.jpg").write_bytes(content)
        dataset = zenith.ImageFolder(folder, transforms)
        return [dataset[number]["image"] for number in range(len(dataset))]


def encoded(photographs: list[Image.Image], options: dict[str, Any]) -> list[bytes]:
    files = []
    for image in photographs:
        file = io.BytesIO()
        image.save(file, "JPEG", **options)
        files.append(file.getvalue())
    return files


def bilinear(image: Image.Image) -> np.ndarray:
    return np.asarray(image.resize((224, 224), Image.Resampling.BILINEAR))


def bicubic(image: Image.Image) -> np.ndarray:
    return np.asarray(image.resize((96, 160), Image.Resampling.BICUBIC))


def evaluation(image: Image.Image) -> np.ndarray:
    return np.asarray(vision.CenterCrop(224)(vision.Resize(256)(image)))


def tensor_resize(image: Image.Image) -> np.ndarray:
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    return vision.functional.resize(pixels, [224, 224], antialias=True).permute(1, 2, 0).numpy()


WORKS: list[tuple[str, t.Transform, str, Reference]] = [
    ("decode, centre 200 × 200", t.CenterCrop(200), "PIL", lambda image: np.asarray(vision.CenterCrop(200)(image))),
    ("decode, resize to 224 × 224, bilinear", t.Resize((224, 224)), "PIL", bilinear),
    ("decode, resize to 160 × 96, bicubic", t.Resize((160, 96), interpolation="bicubic"), "PIL", bicubic),
    (
        "decode, Resize(256), CenterCrop(224)",
        t.Compose([t.Resize(256), t.CenterCrop(224)]),
        "torchvision on PIL",
        evaluation,
    ),
    ("decode, resize to 224 × 224, bilinear", t.Resize((224, 224)), "torchvision on tensors", tensor_resize),
]


def pixel_rows(photographs: list[Image.Image]) -> Iterator[tuple[Any, ...]]:
    for what, transform, reference, make in WORKS:
        composed = t.Compose([transform], layout="NHWC")
        worst, near, count = 0, 0, 0
        for options in ENCODINGS.values():
            files = encoded(photographs, options)
            for found, file in zip(ours(files, composed), files, strict=True):
                wanted = make(Image.open(io.BytesIO(file)).convert("RGB"))
                gaps = np.abs(found.astype(int) - wanted.astype(int))
                worst = max(worst, int(gaps.max()))
                near += int((gaps <= 1).sum())
                count += gaps.size
        share = near / count
        measured = f"{100 * share:.4f} % within 1, at most {worst}"
        bound = f"{100 * SHARE_MIN:g} %, {LEVELS_MAX}"
        yield what, reference, measured, bound, share >= SHARE_MIN and worst <= LEVELS_MAX


def fast_rows(photographs: list[Image.Image]) -> Iterator[tuple[Any, ...]]:
    """Of the photographs that are at least twice as large as what is made of them."""
    large = [image for image in photographs if min(image.size) >= 2 * 112]
    files = encoded(large, ENCODINGS["4:2:0, quality 92"])
    size = t.Resize((112, 112))
    exact = ours(files, t.Compose([size], layout="NHWC"))
    fast = ours(files, t.Compose([size], layout="NHWC", decode="fast"))
    errors = [float(((a.astype(int) - b.astype(int)) ** 2).mean()) for a, b in zip(exact, fast, strict=True)]
    decibels = sorted(10 * math.log10(255**2 / max(error, 1e-9)) for error in errors)
    measured = f"PSNR {decibels[len(decibels) // 2]:.1f} dB, least {decibels[0]:.1f}"
    yield (
        'decode="fast", resize to 112 × 112',
        "the exact mode",
        measured,
        f"{FAST_PSNR_MIN_DB:g} dB",
        (decibels[0] >= FAST_PSNR_MIN_DB),
    )


def draw_rows() -> Iterator[tuple[Any, ...]]:
    height, width = 375, 500
    engine = _engine.Transforms(t.RandomResizedCrop(224).to_json())
    views = [json.loads(engine.view(height, width, key))["source"] for key in range(DRAWS)]
    mine = np.asarray([[view["x"], view["y"], view["width"], view["height"]] for view in views])
    torch.manual_seed(11)
    picture = torch.empty(3, height, width, dtype=torch.uint8)
    crop = vision.RandomResizedCrop(224)
    drawn = (crop.make_params([picture]) for _ in range(DRAWS))
    peers = np.asarray([[one["left"], one["top"], one["width"], one["height"]] for one in drawn])
    distances = [distance(mine[:, column], peers[:, column]) for column in range(4)]
    distances += [
        distance(a[0] * a[1], b[0] * b[1]) for a, b in [((mine[:, 2], mine[:, 3]), (peers[:, 2], peers[:, 3]))]
    ]
    yield (
        f"x, y, width, height, area of {DRAWS:,} RandomResizedCrops",
        "torchvision",
        f"distance of the distributions {max(distances):.3f}",
        f"{KS_BOUND:.3f}",
        max(distances) <= KS_BOUND,
    )


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """Kolmogorov and Smirnov's, of two samples."""
    values = np.unique(np.concatenate([one, other]))
    below = [np.searchsorted(np.sort(sample), values, side="right") / len(sample) for sample in (one, other)]
    return float(np.abs(below[0] - below[1]).max())


class Shards(torch.utils.data.Dataset[dict[str, Any]]):
    """The shards of the example under torch's loader and torchvision's transforms."""

    def __init__(self, pattern: str, transform: Any) -> None:
        plain = zenith.WebDataset(pattern, fields={"jpg": bytes, "cls": int})
        self.samples = [(sample["jpg"], int(sample["cls"])) for sample in plain.__getitems__(range(len(plain)))]
        self.transform = transform

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        content, label = self.samples[index]
        return {"jpg": self.transform(Image.open(io.BytesIO(content)).convert("RGB")), "cls": label}


def training_row() -> tuple[Any, ...]:
    normalise = [vision.PILToTensor(), vision.ToDtype(torch.float32, scale=True), vision.Normalize(MEAN, STD)]
    augment = [vision.RandomResizedCrop(CROP, scale=(0.4, 1.0)), vision.RandomHorizontalFlip(), *normalise]
    evaluate = [vision.Resize(56), vision.CenterCrop(CROP), *normalise]
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        mine = fit(*loaders(folder))
        torch.manual_seed(1)
        train = torch.utils.data.DataLoader(
            Shards(f"{folder}/train-*.tar", vision.Compose(augment)), BATCH, shuffle=True, num_workers=0
        )
        validation = torch.utils.data.DataLoader(Shards(f"{folder}/validation-*.tar", vision.Compose(evaluate)), 256)
        theirs = fit(train, validation)
    measured = f"accuracy {mine:.3f} and {theirs:.3f}"
    return (
        "training of `examples.images`",
        "torch's DataLoader, torchvision on PIL",
        measured,
        f"a gap of {ACCURACY_GAP_MAX:g}",
        abs(mine - theirs) <= ACCURACY_GAP_MAX,
    )


if __name__ == "__main__":
    raise SystemExit(main())
