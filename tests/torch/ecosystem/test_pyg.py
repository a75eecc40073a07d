"""PyTorch Geometric: graphs of different sizes become one batch, by its ``Collater`` or by an entry of the collate map."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import zenith_torch
from ecosystem_samples import LOADERS
from torch.utils.data._utils.collate import default_collate_fn_map
from torch_geometric.data import Batch, Data
from torch_geometric.loader import DataLoader as GraphLoader
from torch_geometric.loader.dataloader import Collater

SIZE = 17


class Rings(torch.utils.data.Dataset[Data]):
    """Graph *i* is a ring of *i* + 3 nodes."""

    def __len__(self) -> int:
        return SIZE

    def __getitem__(self, index: int) -> Data:
        nodes = torch.arange(index + 3)
        edges = torch.stack([nodes, nodes.roll(1)])
        return Data(x=nodes.float()[:, None], edge_index=edges, y=torch.tensor([index]))


def assert_same(ours: list[Any], theirs: list[Any]) -> None:
    assert len(ours) == len(theirs) == -(-SIZE // 4)
    for one, other in zip(ours, theirs, strict=True):
        assert isinstance(one, Batch)
        assert one.num_graphs == other.num_graphs
        for name in ("x", "edge_index", "y", "batch", "ptr"):
            assert torch.equal(one[name], other[name]), name


def test_its_collater_in_our_loader(workers: int) -> None:
    torch.manual_seed(4)
    theirs = list(GraphLoader(Rings(), batch_size=4, shuffle=True, num_workers=workers))
    torch.manual_seed(4)
    collater = Collater(Rings())
    ours = zenith_torch.DataLoader(Rings(), 4, shuffle=True, num_workers=workers, collate_fn=collater)
    assert_same(list(ours), theirs)


def test_its_own_loader_stays_its_own_under_patch() -> None:
    with zenith_torch.patch():
        loader = GraphLoader(Rings(), batch_size=4)
        assert not isinstance(loader, zenith_torch.DataLoader)
        assert_same(list(loader), list(GraphLoader(Rings(), batch_size=4)))


@pytest.fixture
def entry() -> Iterator[None]:
    default_collate_fn_map[Data] = lambda batch, *, collate_fn_map=None: Batch.from_data_list(batch)
    yield
    del default_collate_fn_map[Data]


@pytest.mark.usefixtures("entry")
def test_an_entry_in_the_collate_map_is_honoured(workers: int) -> None:
    expected = list(GraphLoader(Rings(), batch_size=4))
    for loader_class in LOADERS.values():
        assert_same(list(loader_class(Rings(), batch_size=4, num_workers=workers)), expected)


def test_without_an_entry_a_graph_is_no_sample() -> None:
    for loader_class in LOADERS.values():
        with pytest.raises(TypeError, match="default_collate: batch must contain"):
            next(iter(loader_class(Rings(), batch_size=4)))
