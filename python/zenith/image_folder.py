"""Pictures in folders, one folder a class: torchvision's ``ImageFolder``."""

from __future__ import annotations

import operator
import os
from typing import Any

from zenith.datasets import Dataset, PathLike
from zenith.pictures import described, indexed, is_transforms


class ImageFolder(Dataset):
    """Pictures in folders, one folder a class: fields ``image`` and ``label`` (int64).

    Classes, their numbers and the order of the samples are those of ``torchvision.datasets.ImageFolder``: classes sorted by
    name; all files below them whose names end in one of its extensions, whatever their case, hidden ones included.

    Args:
        root: the folder that holds those of the classes.
        transform: transforms that make arrays of one shape (a list is composed); by default ``image`` is the file's bytes.
        seed: seed of the transforms that draw; `set_epoch` has them draw anew.
        allow_empty: take classes without a picture too.
        entropy_index: find out once where in each JPEG decoding can begin, so that crops, and ``decode="fast"`` of large
            pictures, skip most of the rest. Opening reads every picture for that, with a progress bar; what it finds (two
            hundredths of the files, nine with ``"fast"``) is kept beside the other indexes until a file changes. Samples stay
            as they are.

    Raises:
        zenith.NotFoundError: no such folder, no class in it, or a class without a picture.
        zenith.DatasetChangedError: when a sample is read whose file changed or went since the folder was listed.
    """

    def __init__(
        self,
        root: PathLike,
        transform: Any = None,
        *,
        seed: int = 0,
        allow_empty: bool = False,
        entropy_index: bool = False,
    ) -> None:
        if transform is not None and not is_transforms(transform):
            raise TypeError(f"transform must be one of zenith.transforms, or a list of such, got {transform!r}")
        options = {
            "transform": None if transform is None else described(transform),
            "seed": operator.index(seed) % 2**64,
            "allow_empty": bool(allow_empty),
        }
        spec = {"format": "ImageFolder", "root": os.path.expanduser(os.fspath(root)), "options": options}
        super().__init__(indexed(spec, entropy_index))

    @property
    def root(self) -> str:
        """The folder, as it was given."""
        return str(self._spec.get("of", self._spec)["root"])

    @property
    def classes(self) -> list[str]:
        """Names of the classes, sorted."""
        return self._engine.classes

    @property
    def class_to_idx(self) -> dict[str, int]:
        """The label of each class."""
        return {name: label for label, name in enumerate(self.classes)}

    @property
    def samples(self) -> list[tuple[str, int]]:
        """Path and label of every sample."""
        labels = self.class_to_idx
        start = len(os.path.join(os.path.abspath(self.root), ""))
        names = [path[start:] for path in self.files]
        return [(os.path.join(self.root, name), labels[name.split("/", 1)[0]]) for name in names]

    @property
    def imgs(self) -> list[tuple[str, int]]:
        """The same, under torchvision's other name."""
        return self.samples

    @property
    def targets(self) -> list[int]:
        """The label of every sample."""
        return [label for _, label in self.samples]

    def _place(self) -> str:
        return self.root
