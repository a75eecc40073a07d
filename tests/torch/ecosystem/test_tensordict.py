"""tensordict adds entries to ``default_collate_fn_map``: samples that are tensordicts or tensorclasses stack by them."""

from __future__ import annotations

from typing import Any

import pytest
import tensordict
import torch
import zenith
import zenith_torch
from ecosystem_samples import LOADERS
from torch.utils.data import TensorDataset

SIZE = 23


@tensordict.tensorclass
class Pair:
    left: torch.Tensor
    right: torch.Tensor


class Dicts(torch.utils.data.Dataset[Any]):
    def __len__(self) -> int:
        return SIZE

    def __getitem__(self, index: int) -> Any:
        return tensordict.TensorDict({"id": torch.tensor(index), "x": torch.full((3,), float(index))}, batch_size=[])


class Pairs(Dicts):
    def __getitem__(self, index: int) -> Any:
        return {"pair": Pair(torch.tensor(index), torch.ones(2) * index, batch_size=[]), "text": str(index)}


@pytest.mark.parametrize("shuffle", [False, True])
def test_samples_that_are_tensordicts(workers: int, shuffle: bool) -> None:
    batches = {}
    for name, loader_class in LOADERS.items():
        torch.manual_seed(2)
        batches[name] = list(loader_class(Dicts(), batch_size=4, shuffle=shuffle, num_workers=workers))
    for torchs, ours in zip(batches["torch"], batches["zenith"], strict=True):
        assert type(ours) is type(torchs) is tensordict.TensorDict
        assert ours.batch_size == torchs.batch_size
        assert (ours == torchs).all()


def test_samples_that_hold_tensorclasses(workers: int) -> None:
    batches = {name: list(loader(Pairs(), batch_size=4, num_workers=workers)) for name, loader in LOADERS.items()}
    for torchs, ours in zip(batches["torch"], batches["zenith"], strict=True):
        assert type(ours["pair"]) is type(torchs["pair"]) is Pair
        assert (ours["pair"] == torchs["pair"]).all()
        assert ours["text"] == torchs["text"]


def test_a_dataset_that_is_one_tensordict(workers: int) -> None:
    """Batches come from one index operation each, through ``__getitems__``, and are not stacked again."""
    whole = tensordict.TensorDict({"id": torch.arange(SIZE), "x": torch.rand(SIZE, 3)}, batch_size=[SIZE])
    batches = {name: list(loader(whole, batch_size=4, num_workers=workers)) for name, loader in LOADERS.items()}
    assert torch.equal(torch.cat([batch["id"] for batch in batches["zenith"]]), torch.arange(SIZE))
    for torchs, ours in zip(batches["torch"], batches["zenith"], strict=True):
        assert type(ours) is type(torchs)
        assert (ours == torchs).all()


def test_the_entries_are_in_nobodys_way(rows_file: str) -> None:
    """They add types, and change nothing for those that our shorter ways are for."""
    loader = zenith_torch.DataLoader(zenith.Parquet(rows_file), batch_size=10)
    assert loader.explain().startswith("native")
    loader = zenith_torch.DataLoader(TensorDataset(torch.arange(6)), batch_size=3)
    iterator = iter(loader)
    assert iterator._dataset_fetcher.fetch.__name__ == "gather"
    assert next(iterator)[0].tolist() == [0, 1, 2]
