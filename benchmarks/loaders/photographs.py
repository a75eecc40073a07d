"""The corpus of the rows `images-*`: pictures of ImageNet's sizes and of 12 megapixels, cut from photographs that packages ship.

A picture is a crop of one photograph at its own scale or below, never above it, so that it is as sharp as the photographs of
ImageNet are; half are mirrored, some are turned by a quarter so that wide photographs give tall pictures. They are JPEG, 4:2:0,
like what cameras and ImageNet have. One of 12 megapixels is a mosaic of such crops without any scaling: no photograph of that
size comes with a package, and decoding costs the same for the same detail wherever it lies.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import io
import json
import os
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.loaders.data import Files, warm

FORMAT_VERSION = 1
SHARD_PICTURES, LARGE_SHARD_PICTURES = 128, 4
QUALITIES = (90, 95)
"""JPEG qualities, both ends included; with these photographs a picture has about 58 KB in the mean."""
SIZES = (((500, 375), 0.58), ((375, 500), 0.20), ((500, 333), 0.12), ((333, 500), 0.05), ((400, 300), 0.05))
"""(width, height) and its share of the pictures."""
TILE, TILES = (500, 375), (8, 8)
"""A picture of 12 megapixels is 4000 × 3000: so many tiles of this size."""


@dataclasses.dataclass(frozen=True)
class Photograph:
    """A photograph that a package ships; the file is found without importing the package."""

    package: str
    path: str
    about: str
    """Whose it is, and under which licence."""

    def load(self) -> Any:
        """The photograph as a `PIL.Image` in RGB."""
        from PIL import Image

        spec = importlib.util.find_spec(self.package)
        if spec is None or not spec.submodule_search_locations:
            raise ModuleNotFoundError(
                f"the photograph {self.path} comes with {self.package}, which is not installed: "
                "python -m benchmarks.loaders.environment --parts images"
            )
        return Image.open(os.path.join(spec.submodule_search_locations[0], self.path)).convert("RGB")


PHOTOGRAPHS = (
    Photograph("skimage", "data/astronaut.png", "Eileen Collins; NASA, public domain"),
    Photograph("skimage", "data/coffee.png", "coffee cup; Rachel Michetti, CC0"),
    Photograph("skimage", "data/rocket.jpg", "launch of DSCOVR; SpaceX, public domain"),
    Photograph("skimage", "data/hubble_deep_field.jpg", "eXtreme Deep Field; NASA, public domain"),
    Photograph("skimage", "data/ihc.png", "stained tissue; CMMI, no known restrictions"),
    Photograph("skimage", "data/retina.jpg", "fundus of an eye; Mikael Häggström, CC0"),
    Photograph("skimage", "data/chelsea.png", "a cat; Stéfan van der Walt, CC0"),
    Photograph("sklearn", "datasets/images/china.jpg", "a temple; danielbuechele, CC BY 2.0"),
    Photograph("sklearn", "datasets/images/flower.jpg", "a dahlia; dany_e, CC BY 2.0"),
    Photograph("matplotlib", "mpl-data/sample_data/grace_hopper.jpg", "Grace Hopper; US Navy, public domain"),
)


@dataclasses.dataclass(frozen=True)
class Corpus:
    """Where the pictures are, and how many. Picture i has the label i, in the shards and as the number in its file's name."""

    folder: str
    count: int
    large_count: int

    def length(self, large: bool) -> int:
        """The number of pictures."""
        return self.large_count if large else self.count

    def shards(self, large: bool = False) -> list[str]:
        """Tar files in WebDataset's layout: `<key>.jpg` and `<key>.cls`, the label in digits."""
        per_shard = LARGE_SHARD_PICTURES if large else SHARD_PICTURES
        count = -(-self.length(large) // per_shard)
        return [os.path.join(self.folder, prefix(large) + "shards", f"{index:04d}.tar") for index in range(count)]

    def images(self, large: bool = False) -> list[str]:
        """The same pictures as files, in the order of their labels."""
        folder = os.path.join(self.folder, prefix(large) + "images")
        return [os.path.join(folder, f"{index:06d}.jpg") for index in range(self.length(large))]

    def warm(self) -> None:
        """Reads everything once, so that every contender finds it in the page cache."""
        for large in (False, True):
            for path in (*self.shards(large), *self.images(large)):
                warm(path)


def prefix(large: bool) -> str:
    """The folders of large pictures have names of their own."""
    return "large-" if large else ""


def note_of(files: Files) -> Path:
    """The note that stands beside a whole corpus."""
    return Path(files.folder, f"photographs-v{FORMAT_VERSION}", "complete.json")


def of(files: Files) -> Corpus:
    """The corpus beside `files`, which `ensure` wrote."""
    note = note_of(files)
    found = json.loads(note.read_text())
    return Corpus(str(note.parent), found["count"], found["large_count"])


def ensure(files: Files, count: int, large_count: int) -> Corpus:
    """Writes the corpus beside `files` unless one of this size is there. Raises ModuleNotFoundError without the photographs."""
    note = note_of(files)
    if note.exists() and (corpus := of(files)) == Corpus(str(note.parent), count, large_count):
        return corpus
    note.unlink(missing_ok=True)
    corpus = Corpus(str(note.parent), count, large_count)
    photographs = [photograph.load() for photograph in PHOTOGRAPHS]
    started_s = time.perf_counter()
    print(f"data: writing {count} pictures and {large_count} of 12 megapixels …", end=" ", flush=True)
    sizes = write(corpus, photographs, large=False), write(corpus, photographs, large=True)
    mean_kb, large_mean_kb = (sum(found) / len(found) / 1000 for found in sizes)
    print(
        f"{time.perf_counter() - started_s:.1f} s; {mean_kb:.1f} KB and {large_mean_kb:.0f} KB in the mean", flush=True
    )
    about = {f"{entry.package}/{entry.path}": entry.about for entry in PHOTOGRAPHS}
    note.write_text(
        json.dumps(
            {"count": count, "large_count": large_count, "mean_kb": mean_kb, "large_mean_kb": large_mean_kb}
            | {"photographs": about},
            indent=1,
        )
    )
    return corpus


def write(corpus: Corpus, photographs: list[Any], large: bool) -> list[int]:
    """Writes the shards and the files of one kind; returns the pictures' sizes in bytes."""
    make = mosaic if large else picture
    per_shard = LARGE_SHARD_PICTURES if large else SHARD_PICTURES
    sizes = []
    images = corpus.images(large)
    for folder in {os.path.dirname(path) for path in (*images, *corpus.shards(large))}:
        os.makedirs(folder, exist_ok=True)
    for index, shard in enumerate(corpus.shards(large)):
        with tarfile.open(shard, "w", format=tarfile.USTAR_FORMAT) as archive:
            for label in range(index * per_shard, min((index + 1) * per_shard, len(images))):
                encoded = make(photographs, np.random.default_rng([FORMAT_VERSION, large, label]))
                for extension, content in ((".jpg", encoded), (".cls", str(label).encode())):
                    member = tarfile.TarInfo(f"{label:06d}{extension}")
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
                Path(images[label]).write_bytes(encoded)
                sizes.append(len(encoded))
    return sizes


def picture(photographs: list[Any], generator: np.random.Generator) -> bytes:
    """One picture of ImageNet's sizes, encoded."""
    sizes, shares = zip(*SIZES, strict=True)
    return encode(crop(photographs, sizes[generator.choice(len(sizes), p=shares)], generator, scaled=True), generator)


def mosaic(photographs: list[Any], generator: np.random.Generator) -> bytes:
    """One picture of 4000 × 3000, encoded: tiles at the photographs' own scale."""
    from PIL import Image

    whole = Image.new("RGB", (TILE[0] * TILES[0], TILE[1] * TILES[1]))
    for row in range(TILES[1]):
        for column in range(TILES[0]):
            whole.paste(crop(photographs, TILE, generator, scaled=False), (column * TILE[0], row * TILE[1]))
    return encode(whole, generator)


def crop(photographs: list[Any], size: tuple[int, int], generator: np.random.Generator, scaled: bool) -> Any:
    """A random crop of a random photograph that is large enough; `scaled`: of any larger area, scaled down to `size`."""
    from PIL import Image

    width, height = size
    fitting = list(turned(photographs, size))
    source, turn = fitting[generator.integers(len(fitting))]
    if turn:
        source = source.transpose(Image.Transpose.ROTATE_90)
    scale = generator.uniform(1.0, min(source.width / width, source.height / height)) if scaled else 1.0
    left = generator.uniform(0, source.width - width * scale)
    top = generator.uniform(0, source.height - height * scale)
    if scaled:
        cut = source.resize(size, Image.Resampling.LANCZOS, box=(left, top, left + width * scale, top + height * scale))
    else:
        cut = source.crop((int(left), int(top), int(left) + width, int(top) + height))
    return cut.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if generator.random() < 0.5 else cut


def turned(photographs: list[Any], size: tuple[int, int]) -> Iterator[tuple[Any, bool]]:
    """The photographs that hold a crop of `size`, each with whether it must be turned by a quarter for it."""
    width, height = size
    for source in photographs:
        if source.width >= width and source.height >= height:
            yield source, False
        elif source.width >= height and source.height >= width:
            yield source, True


def encode(image: Any, generator: np.random.Generator) -> bytes:
    """As JPEG with the chroma halved both ways."""
    sink = io.BytesIO()
    image.save(sink, "JPEG", quality=int(generator.integers(QUALITIES[0], QUALITIES[1] + 1)), subsampling="4:2:0")
    return sink.getvalue()
