"""Hugging Face ``datasets``: Arrow tables with random access, and streams of their shards."""

from __future__ import annotations

from typing import Any

import datasets
import pytest
import torch
import zenith_torch
from ecosystem_samples import LOADERS

SIZE, BATCH = 42, 4


def table() -> datasets.Dataset:
    columns = {
        "id": list(range(SIZE)),
        "x": [[float(number)] * 3 for number in range(SIZE)],
        "text": list(map(str, range(SIZE))),
    }
    return datasets.Dataset.from_dict(columns)


def assert_same(batches: dict[str, list[Any]]) -> None:
    for torchs, ours in zip(batches["torch"], batches["zenith"], strict=True):
        assert list(ours) == list(torchs) == ["id", "x", "text"]
        assert torch.equal(ours["id"], torchs["id"])
        assert torch.equal(ours["x"], torchs["x"])
        assert ours["text"] == torchs["text"]


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_table(workers: int, shuffle: bool) -> None:
    """Read by ``__getitems__``, a batch at a time."""
    batches = {}
    for name, loader_class in LOADERS.items():
        torch.manual_seed(6)
        loader = loader_class(table().with_format("torch"), batch_size=BATCH, shuffle=shuffle, num_workers=workers)
        batches[name] = list(loader)
    assert len(batches["torch"]) == 11
    assert_same(batches)


def test_a_stream_of_shards(workers: int) -> None:
    batches = {}
    for name, loader_class in LOADERS.items():
        stream = table().to_iterable_dataset(num_shards=4).shuffle(seed=1, buffer_size=7).with_format("torch")
        batches[name] = list(loader_class(stream, batch_size=BATCH, num_workers=workers))
    assert sorted(number for batch in batches["torch"] for number in batch["id"].tolist()) == list(range(SIZE))
    assert_same(batches)


def test_a_stream_goes_on_by_its_own_state() -> None:
    def make() -> Any:
        stream = table().to_iterable_dataset(num_shards=4).with_format("torch")
        return zenith_torch.DataLoader(stream, batch_size=BATCH)

    loader = make()
    assert "state: the dataset's own" in loader.explain()
    iterator = iter(loader)
    for _ in range(3):
        next(iterator)
    resumed = make()
    resumed.load_state_dict(loader.state_dict())
    rest = [batch["id"].tolist() for batch in iterator]
    assert [batch["id"].tolist() for batch in resumed] == rest
    assert len(rest) == 8
