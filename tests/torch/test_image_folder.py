"""zenith.ImageFolder against torchvision's, on folders of files that PIL wrote."""

from __future__ import annotations

import io
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zenith
from PIL import Image
from torchvision.datasets import ImageFolder
from zenith_torch import DataLoader

NAMES = [
    "dog/9.png",
    "dog/10.png",
    "dog/nested/a.JPEG",
    "dog/nested-too/b.webp",
    "dog/nested/deep/c.bmp",
    "dog/.hidden.png",
    "dog/_underscore.png",
    "dog/notes.txt",
    "dog/no-extension",
    ".secret/x.jpg",
    "Äpfel/ö.tiff",
    "cat/z.ppm",
    "cat/a.PGM",
    "Zebra/q.tif",
    "top.png",
]


def picture(path: Path, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = io.BytesIO()
    Image.fromarray(np.full((4, 5, 3), number % 256, dtype=np.uint8)).save(content, format="png")
    path.write_bytes(content.getvalue())


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("folder") / "train"
    for number, name in enumerate(NAMES):
        picture(root / name, number)
    outside = tmp_path_factory.mktemp("outside")
    picture(outside / "linked.png", 99)
    (root / "linked").symlink_to(outside, target_is_directory=True)
    (root / "cat" / "link.png").symlink_to(outside / "linked.png")
    return root


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("many")
    for number in range(500):
        picture(root / f"class{number % 3}" / f"{number}.png", number)
    return root


def content(path: str) -> bytes:
    return Path(path).read_bytes()


def test_classes_and_samples_are_torchvision_s(root: Path) -> None:
    theirs = ImageFolder(str(root))
    ours = zenith.ImageFolder(root)
    assert ours.classes == theirs.classes
    assert ours.class_to_idx == theirs.class_to_idx
    assert ours.samples == ours.imgs == theirs.samples
    assert ours.targets == theirs.targets
    assert len(ours) == len(theirs)
    for sample, (path, label) in zip(ours.__getitems__(range(len(ours))), theirs.samples, strict=True):
        assert sample["image"] == content(path)
        assert sample["label"] == label
        assert sample["label"].dtype == np.int64


def test_a_relative_root_stays_as_it_was_given(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root.parent)
    for given in ("train", "train/", "./train"):
        assert zenith.ImageFolder(given).samples == ImageFolder(given).samples


def test_empty_classes(tmp_path: Path) -> None:
    picture(tmp_path / "b" / "x.png", 1)
    (tmp_path / "a").mkdir()
    with pytest.raises(FileNotFoundError):
        ImageFolder(str(tmp_path))
    with pytest.raises(zenith.NotFoundError, match=r"1 of the 2 classes: a\. .*allow_empty=True"):
        zenith.ImageFolder(tmp_path)
    ours = zenith.ImageFolder(tmp_path, allow_empty=True)
    theirs = ImageFolder(str(tmp_path), allow_empty=True)
    assert (ours.classes, ours.samples) == (theirs.classes, theirs.samples)
    assert ours[0]["label"] == 1
    for folder, text in ((tmp_path / "a", "holds no folders"), (tmp_path / "none", "none")):
        with pytest.raises(zenith.NotFoundError, match=text):
            zenith.ImageFolder(folder)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_what_indexing_gives(many: Path, workers: int) -> None:
    dataset = zenith.ImageFolder(many)
    loader = DataLoader(dataset, batch_size=32, num_workers=workers)
    assert loader.explain().startswith("native")
    read = [pair for batch in loader for pair in zip(batch["image"], batch["label"].tolist(), strict=True)]
    assert read == [(content(path), label) for path, label in ImageFolder(str(many)).samples]


def test_shuffled_epochs_resume_and_views(many: Path) -> None:
    dataset = zenith.ImageFolder(many)

    def loader(of: Any) -> DataLoader:
        return DataLoader(of, batch_size=16, shuffle=True, seed=3, num_workers=2)

    whole = [batch["image"] for batch in loader(dataset)]
    assert sorted(image for batch in whole for image in batch) == sorted(content(path) for path, _ in dataset.samples)
    first = loader(dataset)
    stream = iter(first)
    for _ in range(5):
        next(stream)
    again = loader(dataset)
    again.load_state_dict(first.state_dict())
    assert [batch["image"] for batch in again] == whole[5:]
    part, _ = dataset.split(0.5)
    read = [image for batch in DataLoader(part, batch_size=9, num_workers=1) for image in batch["image"]]
    assert read == [sample["image"] for sample in part.__getitems__(range(len(part)))]


def test_pickles_and_files_that_change(tmp_path: Path) -> None:
    for number in range(3):
        picture(tmp_path / "a" / f"{number}.png", number)
    dataset = zenith.ImageFolder(tmp_path)
    pickled = pickle.dumps(dataset)
    again = pickle.loads(pickled)
    assert (again.samples, again.fingerprint) == (dataset.samples, dataset.fingerprint)
    (tmp_path / "a" / "1.png").write_bytes(b"")
    with pytest.raises(zenith.DatasetChangedError, match=r"1\.png"):
        dataset[0]
    with pytest.raises(zenith.DatasetChangedError):
        pickle.loads(pickled)
    assert zenith.ImageFolder(tmp_path)[1]["image"] == b""
    loader = DataLoader(zenith.ImageFolder(tmp_path), batch_size=3, num_workers=1)
    (tmp_path / "a" / "2.png").unlink()
    with pytest.raises(zenith.DatasetChangedError, match=r"2\.png"):
        list(loader)
    (tmp_path / "a" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(zenith.NotFoundError, match=r"gone\.png"):
        zenith.ImageFolder(tmp_path)
    (tmp_path / "a" / "gone.png").unlink()
    os.mkfifo(tmp_path / "a" / "pipe.png")
    with pytest.raises(zenith.InvalidArgumentError, match="not a regular file"):
        zenith.ImageFolder(tmp_path)


def test_what_is_no_transform_is_refused(root: Path) -> None:
    for given in (lambda image: image, [], "resize", [1]):
        with pytest.raises(TypeError, match=r"transform must be one of zenith.transforms"):
            zenith.ImageFolder(root, given)
