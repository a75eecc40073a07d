"""DL-10: torch's data pipes are wrapped, shuffled by one seed, and sharded over ranks and workers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.distributed as dist
from contract_support import identity
from torch.utils.data import DataLoader, IterDataPipe, MapDataPipe
from torch.utils.data.datapipes.iter import IterableWrapper
from torch.utils.data.datapipes.map import SequenceWrapper

Loader = type[torch.utils.data.DataLoader]


def flat(loader: Any) -> list[Any]:
    return [sample for batch in loader for sample in batch]


def options(workers: int) -> dict[str, Any]:
    return {"batch_size": 2, "collate_fn": identity, "num_workers": workers}


@pytest.fixture
def one_rank() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("workers", [0, 1])
def test_dl_10_a_pipe_is_wrapped(loader_class: Loader, workers: int) -> None:
    stream = loader_class(IterableWrapper(range(5)), **options(workers))
    assert type(stream.dataset).__name__ == "_IterDataPipeSerializationWrapper"
    assert isinstance(stream.dataset, IterDataPipe)
    assert stream._dataset_kind == 1
    assert flat(stream) == list(range(5))
    table = loader_class(SequenceWrapper(range(5)), **options(workers))
    assert type(table.dataset).__name__ == "_MapDataPipeSerializationWrapper"
    assert isinstance(table.dataset, MapDataPipe)
    assert table._dataset_kind == 0
    assert flat(table) == list(range(5))


@pytest.mark.parametrize("shuffle", [None, False, True])
@pytest.mark.parametrize("workers", [0, 1])
def test_dl_10_shuffle_is_applied_to_the_graph(loader_class: Loader, workers: int, shuffle: bool | None) -> None:
    got = []
    for kind in (DataLoader, loader_class):
        torch.manual_seed(5)
        loader = kind(IterableWrapper(range(20)).shuffle(), shuffle=shuffle, **options(workers))
        got.append((flat(loader), flat(loader)))
    assert got[0] == got[1]
    first, second = got[1]
    assert sorted(first) == sorted(second) == list(range(20))
    assert (first == list(range(20))) is (shuffle is False)
    assert (first == second) is (shuffle is False)


@pytest.mark.parametrize("persistent", [False, True])
def test_dl_10_workers_share_one_seed_and_divide_the_shards(loader_class: Loader, persistent: bool) -> None:
    pipe = IterableWrapper(range(20)).shuffle().sharding_filter()
    loader = loader_class(pipe, shuffle=True, persistent_workers=persistent, **options(2))
    for _ in range(2):
        assert sorted(flat(loader)) == list(range(20))
    whole = loader_class(IterableWrapper(range(6)).shuffle(), shuffle=True, batch_size=None, num_workers=2)
    order = list(whole)
    assert order[0::2] == order[1::2]


@pytest.mark.parametrize(("workers", "draws"), [(0, 1), (2, 2)])
def test_dl_10_the_shared_seed_is_drawn_before_the_base_seed(loader_class: Loader, workers: int, draws: int) -> None:
    generator = torch.Generator().manual_seed(3)
    twin = torch.Generator().manual_seed(3)
    loader = loader_class(IterableWrapper(range(4)), generator=generator, **options(workers))
    iterator = iter(loader)
    drawn = [torch.empty((), dtype=torch.int64).random_(generator=twin).item() for _ in range(draws + 1)]
    assert torch.equal(generator.get_state(), twin.get_state())
    assert iterator._base_seed == drawn[1]
    assert iterator._shared_seed == drawn[0 if workers == 0 else 2]
    assert flat(iterator) == ([0, 1, 2, 3] if workers == 0 else [0, 1, 0, 1, 2, 3, 2, 3])


@pytest.mark.usefixtures("one_rank")
@pytest.mark.parametrize("workers", [0, 1])
def test_dl_10_the_shared_seed_goes_over_a_group_of_its_own(loader_class: Loader, workers: int) -> None:
    iterator = iter(loader_class(IterableWrapper(range(4)).shuffle(), **options(workers)))
    assert iterator._pg is not None
    assert iterator._pg is not dist.group.WORLD
    assert dist.get_backend(iterator._pg) == "gloo"
    assert sorted(flat(iterator)) == [0, 1, 2, 3]


@pytest.mark.parametrize("workers", [0, 2])
def test_dl_10_shards_are_by_rank_and_worker(
    loader_class: Loader, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "new_group", lambda backend: None)
    shards = 2 * (workers or 1)
    for rank in range(2):
        monkeypatch.setattr(dist, "get_rank", lambda rank=rank: rank)
        loader = loader_class(IterableWrapper(range(12)).sharding_filter(), batch_size=None, num_workers=workers)
        # Worker after worker in turn; ranks are next to each other.
        parts = [range(rank + 2 * worker, 12, shards) for worker in range(workers or 1)]
        assert list(loader) == [value for turn in zip(*parts, strict=True) for value in turn]
