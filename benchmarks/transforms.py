"""Microseconds a call of common pipelines on one core, beside torchvision on PIL images and on tensors.

    python -m benchmarks.transforms

All get the same 500 × 375 picture, decoded, as an array, an image or a tensor; ours are the plain callables, which copy the
picture in and the result out. The order of the turns is mixed, and the median of them is told.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torchvision.transforms.v2 as vision
from PIL import Image
from zenith import transforms

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

PIPELINES: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "RandomResizedCrop 224, flip": [("RandomResizedCrop", {"size": 224}), ("RandomHorizontalFlip", {})],
    "Resize 256, CenterCrop 224": [("Resize", {"size": 256}), ("CenterCrop", {"size": 224})],
    "the same, float32 normalised": [
        ("Resize", {"size": 256}),
        ("CenterCrop", {"size": 224}),
        ("ToDtype", {"dtype": torch.float32, "scale": True}),
        ("Normalize", {"mean": MEAN, "std": STD}),
    ],
    "RandomResizedCrop 224, ColorJitter": [
        ("RandomResizedCrop", {"size": 224}),
        ("ColorJitter", {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1}),
    ],
    "RandomResizedCrop 224, RandAugment": [("RandomResizedCrop", {"size": 224}), ("RandAugment", {})],
    "RandomResizedCrop 224, GaussianBlur 23": [
        ("RandomResizedCrop", {"size": 224}),
        ("GaussianBlur", {"kernel_size": 23}),
    ],
}


def picture() -> np.ndarray[Any, Any]:
    y, x = np.mgrid[0:375, 0:500]
    smooth = np.stack([128 + 100 * np.sin((x * (c + 1) + y * (3 - c)) / 37) for c in range(3)], axis=-1)
    rough = np.random.default_rng(1).normal(0, 12, smooth.shape)
    levels: np.ndarray[Any, Any] = np.clip(smooth + rough, 0, 255).astype(np.uint8)
    return levels


def contenders(steps: list[tuple[str, dict[str, Any]]]) -> dict[str, Callable[[], object]]:
    array = picture()
    image, tensor = Image.fromarray(array), torch.from_numpy(array).permute(2, 0, 1).contiguous()
    ours = transforms.Compose([getattr(transforms, name)(**arguments) for name, arguments in steps])
    theirs = [getattr(vision, name)(**arguments) for name, arguments in steps]
    first_of_numbers = [name for name, _ in steps].index("ToDtype") if ("ToDtype" in dict(steps)) else len(steps)
    on_images = vision.Compose(
        [*theirs[:first_of_numbers], vision.PILToTensor(), *theirs[first_of_numbers:]]
        if first_of_numbers < len(steps)
        else theirs
    )
    on_tensors = vision.Compose(theirs)
    return {
        "zenith": lambda: ours(array),
        "torchvision, PIL": lambda: on_images(image),
        "torchvision, tensor": lambda: on_tensors(tensor),
    }


def microseconds(call: Callable[[], object], calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - start) / calls * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--calls", type=int, default=30)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    names = ["zenith", "torchvision, PIL", "torchvision, tensor"]
    print(f"{'µs a call':42}" + "".join(f"{name:>21}" for name in names))
    for title, steps in PIPELINES.items():
        candidates = contenders(steps)
        turns: dict[str, list[float]] = {name: [] for name in names}
        for _ in range(arguments.turns):
            for name in random.sample(names, len(names)):
                turns[name].append(microseconds(candidates[name], arguments.calls))
        medians = [statistics.median(turns[name]) for name in names]
        print(
            f"{title:42}" + "".join(f"{median:12.0f} ({median / medians[0]:4.1f} ×)" for median in medians), flush=True
        )


if __name__ == "__main__":
    main()
