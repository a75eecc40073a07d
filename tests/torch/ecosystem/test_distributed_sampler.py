"""torch.distributed: ``DistributedSampler`` in two processes over gloo, which find their ranks themselves."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.distributed as dist
import zenith
import zenith_torch
from ecosystem_processes import Server
from ecosystem_samples import Numbers, ids
from torch.utils.data import DistributedSampler

ROWS = 103


def epochs_of(path: str) -> dict[str, Any]:
    """What this process sees of two epochs, checked against the others by a collective."""
    dist.init_process_group("gloo")
    found: dict[str, Any] = {}
    datasets = {"python": Numbers(ROWS), "zenith": zenith.Parquet(path, columns=["id"])}
    for data, dataset in datasets.items():
        for kind, loader_class in (("torch", torch.utils.data.DataLoader), ("zenith", zenith_torch.DataLoader)):
            for shuffle in (False, True):
                for workers in (0, 2):
                    sampler = DistributedSampler(dataset, shuffle=shuffle, seed=9)
                    loader = loader_class(dataset, batch_size=8, sampler=sampler, num_workers=workers)
                    epochs = []
                    for epoch in (0, 3):
                        sampler.set_epoch(epoch)
                        epochs.append(ids(loader))
                    seen: list[Any] = [None, None]
                    dist.all_gather_object(seen, epochs[0])
                    explained = loader.explain() if kind == "zenith" else ""
                    found[f"{data} {kind} {shuffle} {workers}"] = [len(loader), epochs, seen, explained]
    dist.destroy_process_group()
    return found


@pytest.fixture(scope="module")
def both(server: Server, rows_file: str) -> list[dict[str, Any]]:
    return server.run(epochs_of, 2, path=rows_file)


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_python_dataset(both: list[dict[str, Any]], shuffle: bool, workers: int) -> None:
    for found in both:
        torchs, ours = (found[f"python {kind} {shuffle} {workers}"] for kind in ("torch", "zenith"))
        assert ours[:3] == torchs[:3]
        assert len(torchs[1][0]) == torchs[0] == 7


@pytest.mark.parametrize("workers", [0, 2])
def test_a_zenith_dataset(both: list[dict[str, Any]], workers: int) -> None:
    """The sampler is a plan: in file order exactly its indices, shuffled another order with the same shares."""
    for rank, found in enumerate(both):
        torchs, ours = (found[f"zenith {kind} False {workers}"] for kind in ("torch", "zenith"))
        assert ours[:3] == torchs[:3]
        length, epochs, seen, explained = found[f"zenith zenith True {workers}"]
        assert explained.startswith("native: a DistributedSampler is a plan")
        assert f"rank {rank} of 2" in explained
        assert length == len(epochs[0]) == 7
        assert epochs[0] != epochs[1]
        flat = [number for share in seen for batch in share for number in batch]
        assert len(flat) == ROWS + 1
        assert set(flat) == set(range(ROWS))
