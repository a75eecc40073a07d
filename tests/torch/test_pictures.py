"""Pictures through the loader: native batches are what ``ds[i]`` gives, whoever makes them, and a bad one is lost alone."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import zenith
from PIL import Image
from zenith import transforms as t
from zenith_torch import DataLoader

SHARDS, EACH = 3, 40
COUNT = SHARDS * EACH
AUGMENT = [t.RandomResizedCrop(32), t.RandomHorizontalFlip(), t.ColorJitter(0.4, 0.4, 0.4)]


def jpeg(number: int) -> bytes:
    random = np.random.default_rng(number)
    small = random.integers(0, 256, (6, 5, 3), dtype=np.uint8)
    size = (50 + number % 37, 40 + number % 23)
    file = io.BytesIO()
    Image.fromarray(small).resize(size, Image.Resampling.BICUBIC).save(file, "JPEG", quality=60 + number % 35)
    return file.getvalue()


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


def write(root: Path, damaged: dict[int, bytes] | None = None) -> str:
    for shard in range(SHARDS):
        with tarfile.open(root / f"{shard}.tar", "w") as tar:
            for number in range(shard * EACH, (shard + 1) * EACH):
                add(tar, f"{number:04}.jpg", (damaged or {}).get(number, jpeg(number)))
                add(tar, f"{number:04}.cls", str(number).encode())
    return str(root / "*.tar")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write(tmp_path_factory.mktemp("pictures"))


def dataset(shards: str, seed: int = 7) -> Any:
    return zenith.WebDataset(shards, fields={"jpg": AUGMENT, "cls": int}, seed=seed)


def delivered(loader: Any) -> dict[int, torch.Tensor]:
    found = {}
    for batch in loader:
        for number, picture in zip(batch["cls"].tolist(), batch["jpg"], strict=True):
            assert number not in found
            found[number] = picture.clone()
    return found


def same(found: dict[int, torch.Tensor], wanted: dict[int, torch.Tensor]) -> bool:
    return found.keys() == wanted.keys() and all(torch.equal(found[number], wanted[number]) for number in found)


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_batches_are_what_the_dataset_gives_in_each_epoch(shards: str, workers: int) -> None:
    loader = DataLoader(dataset(shards), batch_size=16, shuffle=True, num_workers=workers, seed=1)
    epochs = []
    for epoch in range(2):
        found = delivered(loader)
        single = dataset(shards)
        single.set_epoch(epoch)
        assert same(found, {i: torch.from_numpy(single[i]["jpg"]) for i in range(COUNT)})
        epochs.append(found)
    assert not any(torch.equal(epochs[0][number], epochs[1][number]) for number in range(COUNT))
    assert "native" in loader.explain()


def test_a_picture_is_augmented_alike_on_any_number_of_ranks(shards: str) -> None:
    alone = delivered(DataLoader(dataset(shards), batch_size=16, shuffle=True, num_workers=2, seed=3))
    together: dict[int, torch.Tensor] = {}
    for rank in range(3):
        loader = DataLoader(
            dataset(shards), batch_size=5, shuffle=True, num_workers=1, seed=3, rank=rank, world_size=3, tail="uneven"
        )
        together |= delivered(loader)
    assert same(together, alone)
    other_seed = delivered(DataLoader(dataset(shards, seed=8), batch_size=16, num_workers=2))
    assert not same(other_seed, alone)


def test_views_keep_the_augmentation_of_their_samples(shards: str) -> None:
    whole = dataset(shards)
    chosen = [100, 3, 57, 3]
    view = whole.select(chosen)
    for place, number in enumerate(chosen):
        np.testing.assert_array_equal(view[place]["jpg"], whole[number]["jpg"])
    joined = whole.take(30).concat(whole.select(list(range(60, 90))))
    found = delivered(DataLoader(joined, batch_size=8, num_workers=2, shuffle=True))
    assert same(found, {i: torch.from_numpy(whole[i]["jpg"]) for i in [*range(30), *range(60, 90)]})


@pytest.mark.parametrize(("workers", "world"), [(0, 1), (3, 1), (1, 2)])
def test_a_resume_in_mid_shard_is_exact(shards: str, workers: int, world: int) -> None:
    def loader(rank: int, world: int, workers: int, size: int) -> Any:
        return DataLoader(
            dataset(shards), size, shuffle=True, num_workers=workers, seed=5, rank=rank, world_size=world, tail="uneven"
        )

    first = loader(0, 1, 2, 10)
    iterator = iter(first)
    seen = {}
    for _ in range(5):
        batch = next(iterator)
        seen |= dict(zip(batch["cls"].tolist(), batch["jpg"], strict=True))
    state = json.loads(json.dumps(first.state_dict()))
    rest: dict[int, torch.Tensor] = {}
    for rank in range(world):
        resumed = loader(rank, world, workers, 6)
        resumed.load_state_dict(state)
        rest |= delivered(resumed)
    assert not rest.keys() & seen.keys()
    assert same(seen | rest, delivered(loader(0, 1, 1, 16)))


class TestDamaged:
    BAD = {  # noqa: RUF012
        5: jpeg(5)[:300],
        41: b"",
        42: b"not a picture",
        77: jpeg(77)[:-200],
        119: b"\xff\xd8\xff\xc0\x00\x11\x08\xff\xff\xff\xff\x03\x01\x22\x00\x02\x11\x01\x03\x11\x01" + bytes(60),
    }

    @pytest.fixture
    def shards(self, tmp_path: Path) -> str:
        return write(tmp_path, self.BAD)

    @pytest.mark.parametrize("workers", [0, 2])
    def test_an_error_names_the_shard_the_member_and_the_byte(self, shards: str, workers: int) -> None:
        loader = DataLoader(dataset(shards), batch_size=1, num_workers=workers)
        iterator = iter(loader)
        errors = {}
        for number in range(COUNT):
            try:
                assert next(iterator)["cls"].item() == number
            except zenith.ZenithError as error:
                errors[number] = str(error)
        assert errors.keys() == self.BAD.keys()
        for number, text in errors.items():
            assert f"{number // EACH}.tar" in text
            assert f"{number:04}.jpg" in text
            assert "byte" in text

    @pytest.mark.parametrize("workers", [0, 2])
    def test_skipping_loses_it_alone_and_counts_it(self, shards: str, workers: int) -> None:
        loader = DataLoader(dataset(shards), batch_size=16, shuffle=True, num_workers=workers, on_error="skip", seed=1)
        found = delivered(loader)
        assert found.keys() == set(range(COUNT)) - self.BAD.keys()
        assert loader.stats()["skipped_samples"] == len(self.BAD)
        whole = dataset(shards)
        assert all(np.array_equal(found[number], whole[number]["jpg"]) for number in found)

    def test_several_ranks_keep_their_places(self, shards: str) -> None:
        counts = []
        numbers: list[int] = []
        for rank in range(2):
            loader = DataLoader(
                dataset(shards), batch_size=8, num_workers=1, on_error="skip", rank=rank, world_size=2, seed=1
            )
            batches = [batch["cls"].tolist() for batch in loader]
            counts.append([len(batch) for batch in batches])
            numbers += [number for batch in batches for number in batch]
        assert counts[0] == counts[1]
        assert len(numbers) == COUNT
        assert set(numbers) == set(range(COUNT)) - self.BAD.keys()

    def test_quarantine_lists_samples(self, shards: str, tmp_path: Path) -> None:
        path = tmp_path / "bad.jsonl"
        for _ in range(2):
            loader = DataLoader(
                dataset(shards), batch_size=16, num_workers=2, on_error="quarantine", quarantine_path=path
            )
            assert delivered(loader).keys() == set(range(COUNT)) - self.BAD.keys()
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        assert len(lines) == len(self.BAD)
        assert all(line["rows"][1] - line["rows"][0] == 1 for line in lines)
        part = dataset(shards).select(list(range(40, 80)))
        loader = DataLoader(part, batch_size=16, num_workers=1, on_error="quarantine", quarantine_path=path)
        assert delivered(loader).keys() == set(range(40, 80)) - self.BAD.keys()
        assert len(path.read_text().splitlines()) == len(self.BAD)


def test_layouts_and_dtypes_are_made_in_one_pass(shards: str) -> None:
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)
    crop = [t.Resize((24, 20))]
    plain = zenith.WebDataset(shards, fields={"jpg": t.Compose(crop, layout="NHWC"), "cls": int})
    base = torch.stack([torch.from_numpy(plain[i]["jpg"]) for i in range(10)])
    assert base.shape == (10, 24, 20, 3)
    assert base.dtype is torch.uint8
    for dtype in ("float32", "bfloat16", "float16"):
        made = [*crop, t.ToDtype(dtype, scale=True), t.Normalize(mean, std)]
        found = next(
            iter(
                DataLoader(
                    zenith.WebDataset(shards, fields={"jpg": t.Compose(made, layout="NCHW"), "cls": int}),
                    batch_size=10,
                    num_workers=1,
                )
            )
        )["jpg"]
        wanted = (base.permute(0, 3, 1, 2).double() / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(
            3, 1, 1
        )
        assert found.dtype is getattr(torch, dtype)
        assert found.shape == (10, 3, 24, 20)
        epsilon = {"float32": 1e-5, "bfloat16": 2e-2, "float16": 3e-3}[dtype]
        torch.testing.assert_close(found.double(), wanted, atol=epsilon, rtol=epsilon)


def test_image_folders_equal_torchvision(tmp_path: Path) -> None:
    from torchvision.datasets import ImageFolder

    for name in ("dog", "cat"):
        (tmp_path / name / "more").mkdir(parents=True)
        for number in range(7):
            (tmp_path / name / ("more" if number % 2 else "") / f"{number}.jpg").write_bytes(jpeg(number + len(name)))
    ours = zenith.ImageFolder(tmp_path, [t.Resize((30, 30))])
    theirs = ImageFolder(str(tmp_path))
    assert (ours.classes, ours.class_to_idx) == (theirs.classes, theirs.class_to_idx)
    assert [(str(path), label) for path, label in ours.samples] == theirs.samples
    found = [
        sample
        for batch in DataLoader(ours, batch_size=4, num_workers=2)
        for sample in zip(*batch.values(), strict=True)
    ]
    for (picture, label), (image, target) in zip(found, theirs, strict=True):
        wanted = np.asarray(image.resize((30, 30), Image.Resampling.BILINEAR)).astype(int)
        assert label == target
        assert np.abs(picture.permute(1, 2, 0).numpy().astype(int) - wanted).max() <= 1


def test_batches_are_mixed_alike_after_a_resume(shards: str) -> None:
    mix = t.MixUp(num_classes=COUNT)
    floats = [t.Resize((8, 8)), t.ToDtype("float32", scale=True)]

    def mixed(batch: dict[str, Any], key: int) -> Any:
        return mix(batch["jpg"], batch["cls"], key)

    def loader(workers: int) -> Any:
        dataset = zenith.WebDataset(shards, fields={"jpg": floats, "cls": int})
        return DataLoader(dataset, batch_size=16, shuffle=True, num_workers=workers, map_batch=mixed)

    torch.manual_seed(2)
    complete = loader(2)
    start = complete.state_dict()
    whole = list(complete)
    assert len({round(float(labels[labels > 0].min()), 6) for _, labels in whole}) > 1
    first = loader(0)
    first.load_state_dict(start)
    iterator = iter(first)
    seen = [next(iterator) for _ in range(3)]
    resumed = loader(1)
    resumed.load_state_dict(first.state_dict())
    for (images, labels), (wanted, wanted_labels) in zip([*seen, *resumed], whole, strict=True):
        assert torch.equal(images, wanted)
        assert torch.equal(labels, wanted_labels)
    second_epoch = loader(2)
    second_epoch.set_epoch(1)
    assert not torch.equal(next(iter(second_epoch))[1], whole[0][1])


def test_a_picture_that_is_missing_in_a_column_is_lost_alone(tmp_path: Path) -> None:
    pictures = [{"bytes": jpeg(number), "path": None} for number in range(20)]
    pictures[3] = {"bytes": None, "path": "elsewhere.jpg"}
    table = pa.table({"image": pictures, "label": list(range(20))})
    pq.write_table(table, tmp_path / "a.parquet")
    dataset = zenith.Parquet(tmp_path / "a.parquet", fields={"image": [t.Resize((8, 8))], "label": None})
    with pytest.raises(zenith.ZenithError, match=r"a\.parquet, row 3, field \"image\": the picture has no bytes"):
        dataset[3]
    loader = DataLoader(dataset, batch_size=6, num_workers=2, on_error="skip")
    assert [number for batch in loader for number in batch["label"].tolist()] == [*range(3), *range(4, 20)]
    assert loader.stats()["skipped_samples"] == 1
