"""The datasets of the rows `python-*`: ordinary Python classes whose samples lie ready, so that the loader is what is timed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from benchmarks.loaders.data import Files

IMAGE_SHAPE = (3, 224, 224)
SMALL_VALUES = 16
"""f32 values of a small tensor."""
WIDE_TENSORS = 114
"""Tensors of a wide sample, as many as the widest hand-over has."""


class Ready:
    """Samples made beforehand, over and over: sample i is number i modulo their count.

    The counts are primes, so that a batch in the place of another one is noticed: two batches begin with the same sample
    only where that many batches lie between them.
    """

    def __init__(self, samples: list[Any], length: int) -> None:
        self.samples, self.length = samples, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Any:
        return self.samples[index % len(self.samples)]


class Numbers:
    """Sample i is the Python numbers i / 2 and i."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[float, int]:
        return index / 2, index


def small_fields(length: int, tensors: int, values: int = SMALL_VALUES, count: int = 1021) -> Ready:
    """Samples of `tensors` fields, f32 [values] each."""
    import torch

    # Each a tensor of its own, as a dataset that reads its samples makes them, and no view of a table.
    generator = torch.Generator().manual_seed(0)
    fields = [f"field{index:03d}" for index in range(tensors)]
    return Ready([{name: torch.randn(values, generator=generator) for name in fields} for _ in range(count)], length)


def images(length: int) -> Ready:
    """Samples of an f32 image [3, 224, 224] and its class, a Python int."""
    import torch

    generator = torch.Generator().manual_seed(0)
    return Ready([(torch.randn(IMAGE_SHAPE, generator=generator), index) for index in range(61)], length)


def zero_dimensional(length: int) -> Ready:
    """Samples of two tensors of shape []: f32 and i64."""
    import torch

    return Ready([(torch.tensor(index / 2), torch.tensor(index)) for index in range(1021)], length)


@dataclasses.dataclass(frozen=True)
class PythonWork:
    """One work: what its samples are, and how they are batched."""

    title: str
    make: Callable[[int], Any]
    """The dataset of that many samples."""
    batch_size: int
    rows_per_sample: int
    """An epoch has one sample for so many rows of the table: enough that a run lasts its budget, few enough for the gate."""
    bar: float
    """At least this many times torch's rate, with 2 workers."""
    extra: bool = False
    """True for variants that only `--only` or `--all` runs."""

    def samples(self, files: Files) -> int:
        """The samples of an epoch."""
        return max(1, files.size.rows // self.rows_per_sample)


WORKS: dict[str, PythonWork] = {
    "python-dict": PythonWork("dict of 8 × f32 [16]", lambda length: small_fields(length, 8), 256, 8, 2.2),
    "python-images": PythonWork("f32 [3, 224, 224] and a class", images, 64, 128, 2.5),
    "python-scalars": PythonWork("two Python numbers", Numbers, 256, 1, 10.0),
    "python-scalars-0d": PythonWork("two 0-d tensors", zero_dimensional, 256, 1, 10.0, extra=True),
    "python-wide": PythonWork(
        "dict of 114 × f32 [16]", lambda length: small_fields(length, WIDE_TENSORS, count=251), 256, 32, 3.0
    ),
}


def open_loader(package: str, work: str, length: int, **options: Any) -> Any:
    """The `DataLoader` of `package` over `length` samples of `work`, with 2 forked workers, in order.

    In order, because a shuffled epoch begins with torch's draw of all its indices, the same work in every loader.
    """
    import importlib

    entry = WORKS[work]
    options = {"batch_size": entry.batch_size, "num_workers": 2, "multiprocessing_context": "fork", **options}
    return importlib.import_module(package).DataLoader(entry.make(length), **options)
