"""Pictures of ImageNet's usual size and quality, cut from the photographs that scientific packages ship."""

from __future__ import annotations

import importlib.util
import io
import math
import random
from pathlib import Path

from PIL import Image

SIZE = (500, 375)
QUALITY = 90

PHOTOGRAPHS = {
    "skimage": [f"data/{name}" for name in ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")],
    "sklearn": [f"datasets/images/{name}" for name in ("china.jpg", "flower.jpg")],
    "matplotlib": ["mpl-data/sample_data/grace_hopper.jpg"],
}

Crop = tuple[int, int, int, int]


def photographs() -> list[Image.Image]:
    found = []
    for package, files in PHOTOGRAPHS.items():
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin is not None:
            root = Path(spec.origin).parent
            found += [Image.open(root / file).convert("RGB") for file in files if (root / file).exists()]
    if not found:
        raise SystemExit(f"install one of {', '.join(PHOTOGRAPHS)}: the pictures are cut from what they ship")
    return found


def pictures(count: int, seed: int = 1) -> list[bytes]:
    """Different cuts and flips; a photograph that is smaller than a cut is enlarged."""
    randomly = random.Random(seed)
    sources = photographs()
    files = []
    for number in range(count):
        source = sources[number % len(sources)]
        scale = max(1.0, SIZE[0] / source.width, SIZE[1] / source.height)
        if scale > 1:
            size = (math.ceil(source.width * scale), math.ceil(source.height * scale))
            source = source.resize(size, Image.Resampling.LANCZOS)
        x, y = randomly.randint(0, source.width - SIZE[0]), randomly.randint(0, source.height - SIZE[1])
        cut = source.crop((x, y, x + SIZE[0], y + SIZE[1]))
        if randomly.random() < 0.5:
            cut = cut.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        file = io.BytesIO()
        cut.save(file, "JPEG", quality=QUALITY)
        files.append(file.getvalue())
    return files


def crops(count: int, seed: int = 3) -> list[Crop]:
    """x, y, width and height as RandomResizedCrop draws them: 8 to 100 % of the area, ratios of 3/4 to 4/3."""
    randomly = random.Random(seed)
    drawn: list[Crop] = []
    while len(drawn) < count:
        area = SIZE[0] * SIZE[1] * randomly.uniform(0.08, 1)
        ratio = math.exp(randomly.uniform(math.log(3 / 4), math.log(4 / 3)))
        width, height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < width <= SIZE[0] and 0 < height <= SIZE[1]:
            drawn.append((randomly.randint(0, SIZE[0] - width), randomly.randint(0, SIZE[1] - height), width, height))
    return drawn
