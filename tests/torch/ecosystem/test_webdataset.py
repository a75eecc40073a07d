"""WebDataset: its own ``IterableDataset`` over tar files, which splits the shards among the workers itself."""

from __future__ import annotations

import gc
import io
import json
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset
import zenith_torch
from ecosystem_samples import LOADERS

# It leaves tar files for the garbage collector to close.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
SHARDS, EACH = 4, 9


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:
    """So that no later test meets those files."""
    yield
    gc.collect()


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("shards")
    for shard in range(SHARDS):
        with tarfile.open(root / f"train-{shard:03}.tar", "w") as tar:
            for number in range(shard * EACH, (shard + 1) * EACH):
                array = io.BytesIO()
                np.save(array, np.full(5, number, dtype=np.float32))
                for suffix, content in (("npy", array.getvalue()), ("json", json.dumps({"id": number}).encode())):
                    member = tarfile.TarInfo(f"{number:06}.{suffix}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    return str(Path(root, f"train-{{000..{SHARDS - 1:03}}}.tar"))


def described(sample: tuple[dict[str, int], np.ndarray[Any, Any]]) -> tuple[int, np.ndarray[Any, Any]]:
    return sample[0]["id"], sample[1]


def plain(shards: str) -> Any:
    return webdataset.WebDataset(shards, shardshuffle=False).decode().to_tuple("json", "npy").map(described)


def shuffled(shards: str) -> Any:
    return (
        webdataset.WebDataset(shards, shardshuffle=3, seed=5)
        .shuffle(8, seed=6)
        .decode()
        .to_tuple("json", "npy")
        .map(described)
    )


def batches_of(loader: Any) -> list[Any]:
    return [[numbers.tolist(), arrays.tolist()] for numbers, arrays in loader]


@pytest.mark.parametrize("make", [plain, shuffled])
def test_batched_by_the_loader(shards: str, workers: int, make: Callable[[str], Any]) -> None:
    found = {}
    for name, loader_class in LOADERS.items():
        loader = loader_class(make(shards), batch_size=4, num_workers=workers)
        found[name] = [batches_of(loader), batches_of(loader)]
    assert sorted(number for numbers, _ in found["torch"][0] for number in numbers) == list(range(SHARDS * EACH))
    assert found["zenith"] == found["torch"]


def test_batched_by_the_dataset(shards: str, workers: int) -> None:
    """As WebDataset recommends: batches are made in the workers, and the loader takes them as they are."""
    found = {}
    for name, loader_class in LOADERS.items():
        dataset = plain(shards).batched(4)
        found[name] = batches_of(loader_class(dataset, batch_size=None, num_workers=workers))
    assert len(found["torch"]) == (9 if workers == 0 else 10)
    assert found["zenith"] == found["torch"]


def test_its_web_loader_takes_ours_under_patch(shards: str, workers: int) -> None:
    """``WebLoader`` makes a loader of torch's and is a pipeline behind it."""
    expected = batches_of(webdataset.WebLoader(plain(shards), batch_size=4, num_workers=workers))
    with zenith_torch.patch():
        loader = webdataset.WebLoader(plain(shards), batch_size=4, num_workers=workers)
    assert isinstance(loader.pipeline[0], zenith_torch.DataLoader)
    assert batches_of(loader) == expected


def test_it_goes_on_where_a_state_was_taken(shards: str, workers: int) -> None:
    loader = zenith_torch.DataLoader(plain(shards), batch_size=4, num_workers=workers)
    unbroken = batches_of(loader)
    iterator = iter(loader)
    for _ in range(3):
        next(iterator)
    state = loader.state_dict()
    resumed = zenith_torch.DataLoader(plain(shards), batch_size=4, num_workers=workers)
    resumed.load_state_dict(state)
    assert batches_of(resumed) == unbroken[3:]
