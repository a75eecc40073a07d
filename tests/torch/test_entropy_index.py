"""``entropy_index=True``: the same samples with an index of the pictures' scans, whatever becomes of the index."""

from __future__ import annotations

import io
import os
import pickle
import tarfile
from collections.abc import Callable
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

COUNT = 36
CROPS = t.Compose([t.RandomResizedCrop(40, scale=(0.05, 0.4)), t.RandomHorizontalFlip()], layout="NHWC")
SMALL = t.Compose([t.Resize(32), t.CenterCrop(30)], decode="fast", layout="NHWC")


def picture(number: int) -> bytes:
    """Baseline and progressive, with and without restart markers, in colour and grey; and one that is no JPEG."""
    random = np.random.default_rng(number)
    small = random.integers(0, 256, (24, 32, 3), dtype=np.uint8)
    image = Image.fromarray(small).resize((300 + 7 * number, 280), Image.Resampling.BICUBIC)
    options: dict[str, Any] = [
        {},
        {"subsampling": 0},
        {"progressive": True},
        {"restart_marker_rows": 1},
        {"optimize": True, "subsampling": 1},
    ][number % 5]
    file = io.BytesIO()
    if number == 17:
        image.save(file, "PNG")
    else:
        (image.convert("L") if number % 7 == 3 else image).save(file, "JPEG", quality=80 + number % 16, **options)
    return file.getvalue()


@pytest.fixture
def shards(tmp_path: Path) -> str:
    for shard in range(3):
        with tarfile.open(tmp_path / f"{shard}.tar", "w") as tar:
            for number in range(shard * COUNT // 3, (shard + 1) * COUNT // 3):
                for extension, content in (("jpg", picture(number)), ("cls", str(number).encode())):
                    info = tarfile.TarInfo(f"{number:04}.{extension}")
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
    return str(tmp_path / "*.tar")


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Path]:
    """A cache folder of its own; gives the file of the index, the largest in it."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("ZENITH_CACHE_DIR", str(folder))
    return lambda: max((folder / "index").iterdir(), key=lambda path: path.stat().st_size)


def opened(shards: str, steps: t.Transform, entropy_index: bool = True) -> zenith.Dataset:
    return zenith.WebDataset(shards, {"jpg": steps, "cls": int}, seed=5, entropy_index=entropy_index)


def delivered(dataset: Any, **options: Any) -> list[torch.Tensor]:
    loader = DataLoader(dataset, batch_size=8, shuffle=True, seed=1, **{"num_workers": 2, **options})
    return [batch["jpg"] for _ in range(2) for batch in loader]


def same(left: list[torch.Tensor], right: list[torch.Tensor]) -> bool:
    return len(left) == len(right) and all(map(torch.equal, left, right))


@pytest.mark.parametrize("steps", [CROPS, SMALL], ids=["crops", "an eighth"])
@pytest.mark.parametrize("workers", [0, 2])
def test_samples_are_those_without_an_index(shards: str, kept: Any, steps: t.Transform, workers: int) -> None:
    plain, indexed = opened(shards, steps, entropy_index=False), opened(shards, steps)
    assert plain.fingerprint == indexed.fingerprint
    assert same(delivered(plain, num_workers=workers), delivered(indexed, num_workers=workers))
    assert kept().stat().st_size > 3_000
    assert all(np.array_equal(plain[i]["jpg"], indexed[i]["jpg"]) for i in range(COUNT))


def test_views_and_pickles_keep_the_index(shards: str, kept: Any) -> None:
    plain, indexed = opened(shards, CROPS, entropy_index=False), opened(shards, CROPS)
    picked = [5, 6, 7, 20, 33, 1]
    assert same(delivered(plain.select(picked)), delivered(indexed.select(picked)))
    again = pickle.loads(pickle.dumps(indexed))
    assert same(delivered(plain), delivered(again))
    both = zenith.concat([plain, plain]), zenith.concat([indexed, again])
    assert same(*map(delivered, both))


def test_an_index_is_built_once_and_a_damaged_one_does_no_harm(shards: str, kept: Any) -> None:
    wanted = delivered(opened(shards, CROPS))
    file = kept()
    written = file.stat().st_ino
    assert same(delivered(opened(shards, CROPS)), wanted)
    assert kept().stat().st_ino == written
    whole = file.read_bytes()
    random = np.random.default_rng(0)
    for place in [*random.integers(0, len(whole), 20), len(whole) - 1, len(whole) - 20]:
        damaged = bytearray(whole)
        damaged[place] ^= 0x10
        file.write_bytes(damaged)
        assert same(delivered(opened(shards, CROPS)), wanted), place
    for length in (0, 7, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:length])
        assert same(delivered(opened(shards, CROPS)), wanted), length
        assert file.read_bytes() == whole


def test_where_nothing_can_be_kept_there_is_none(shards: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZENITH_CACHE_DIR", "")
    assert same(delivered(opened(shards, CROPS)), delivered(opened(shards, CROPS, entropy_index=False)))


def test_files_that_changed_are_indexed_anew(shards: str, kept: Any, tmp_path: Path) -> None:
    opened(shards, CROPS)
    before = kept()
    shard = tmp_path / "0.tar"
    stamp = shard.stat().st_mtime_ns + 1_000_000_000
    os.utime(shard, ns=(stamp, stamp))
    assert same(delivered(opened(shards, CROPS)), delivered(opened(shards, CROPS, entropy_index=False)))
    assert len([path for path in before.parent.iterdir() if path.stat().st_size == before.stat().st_size]) == 2


def test_folders_have_one_and_tables_do_not(tmp_path: Path, kept: Any) -> None:
    for number in range(COUNT):
        folder = tmp_path / "images" / str(number % 2)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:03}.jpg").write_bytes(picture(number))
    root = str(tmp_path / "images")
    plain, indexed = (zenith.ImageFolder(root, CROPS, entropy_index=wanted) for wanted in (False, True))
    assert (indexed.root, indexed.samples) == (plain.root, plain.samples)
    batches = [[batch["image"] for batch in DataLoader(ds, batch_size=6, num_workers=2)] for ds in (plain, indexed)]
    assert same(*batches)
    with pytest.raises(zenith.InvalidArgumentError, match="give it transforms"):
        zenith.ImageFolder(root, entropy_index=True)
    table = tmp_path / "a.parquet"
    pq.write_table(pa.table({"jpg": [picture(0)]}), table)
    assert len(zenith.Parquet(str(table), fields={"jpg": CROPS})) == 1
