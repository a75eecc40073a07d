"""Rank and world size: from arguments, a mesh, a process group, or torch.distributed; with real gloo processes."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from zenith_torch import DataLoader

ROWS = 10_007
SECONDS = 120
RANK_SHARES = Path(__file__).with_name("rank_shares.py")


def ids(loader: DataLoader) -> list[int]:
    return [i for batch in loader for i in batch["id"].tolist()]


@pytest.mark.parametrize("world", [2, 4])
def test_processes_share_an_epoch(zenith_run: str, parquet_files: Path, tmp_path: Path, world: int) -> None:
    command = [zenith_run, f"--nproc-per-node={world}", str(RANK_SHARES), str(parquet_files), str(tmp_path)]
    environment = os.environ | {"PYTHON_EXEC": sys.executable, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    found = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(world)]

    def expected(rank: int, of: int) -> list[int]:
        return ids(DataLoader(parquet_files, batch_size=100, shuffle=True, seed=3, rank=rank, world_size=of))

    half = world // 2
    for rank, ways in enumerate(found):
        whole = expected(rank, world)
        for name in ("torch.distributed", "mesh", "hybrid"):
            assert ways[name] == [-(-len(whole) // 100), whole], name
        # The mesh counts its processes row by row.
        assert ways["dp of two"][1] == expected(rank % half, half)
        assert ways["group"] == ways["dp of two"]
        assert ways["first of two"][1] == expected(rank // 2, half)
        assert ways["arguments"][1] == expected(1, 3)
    assert set().union(*(ways["mesh"][1] for ways in found)) == set(range(ROWS))


@pytest.fixture
def alone(tmp_path: Path):
    store = dist.FileStore(str(tmp_path / "store"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    if dist.is_initialized():
        dist.destroy_process_group()


def test_torch_distributed_is_noticed_once(parquet_files: Path, alone: None, caplog, monkeypatch) -> None:
    monkeypatch.setattr("zenith_torch.ranks._noticed", False)
    loader = DataLoader(parquet_files, batch_size=5000)
    assert not caplog.records, "it is looked at when it is needed"
    for _ in range(2):
        assert len(loader) == 3
        list(DataLoader(parquet_files, batch_size=5000))
    assert [record.name for record in caplog.records] == ["zenith_torch"]
    assert "mesh=" in caplog.records[0].message


def test_what_was_given_is_not_noticed(parquet_files: Path, alone: None, caplog, monkeypatch) -> None:
    monkeypatch.setattr("zenith_torch.ranks._noticed", False)
    mesh = init_device_mesh("cpu", (1,))
    for options in ({"rank": 0, "world_size": 1}, {"mesh": mesh}, {"process_group": dist.group.WORLD}):
        assert len(DataLoader(parquet_files, batch_size=5000, **options)) == 3
    assert not [record for record in caplog.records if record.name == "zenith_torch"]


def become(monkeypatch: pytest.MonkeyPatch, rank: int, world: int) -> None:
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_rank", lambda group=None: rank)
    monkeypatch.setattr(dist, "get_world_size", lambda group=None: world)


def test_changing_the_ranks_later_is_an_error(parquet_files: Path, monkeypatch) -> None:
    loader = DataLoader(parquet_files, batch_size=5000)
    for name in ("rank", "world_size", "mesh", "process_group"):
        with pytest.raises(ValueError, match=f"{name} cannot be changed"):
            setattr(loader, name, 1)
    become(monkeypatch, 0, 2)
    assert len(loader) == 2
    become(monkeypatch, 1, 2)
    assert ids(loader)[0] == 1, "asking for the length bound nothing"
    become(monkeypatch, 0, 2)
    with pytest.raises(RuntimeError, match=r"rank was 1 at the first iteration and is 0 now"):
        iter(loader)


def test_a_process_that_was_alone_may_become_one_of_several(parquet_files: Path, monkeypatch) -> None:
    """Trainers start the processes after the program has made its loaders, measured them and looked at a batch."""
    loader = DataLoader(parquet_files, batch_size=100, shuffle=True)
    next(iter(loader))
    shares = []
    for rank in range(2):
        copy = pickle.loads(pickle.dumps(loader))
        become(monkeypatch, rank, 2)
        shares.append(ids(copy))
        monkeypatch.undo()
    # The seed that one of them had drawn for itself would be another one in each.
    assert shares == [
        ids(DataLoader(parquet_files, batch_size=100, shuffle=True, seed=0, rank=r, world_size=2)) for r in (0, 1)
    ]


def test_contradictions_are_refused_at_once(parquet_files: Path, alone: None) -> None:
    mesh = init_device_mesh("cpu", (1,))
    with pytest.raises(ValueError, match="together"):
        DataLoader(parquet_files, rank=1)
    with pytest.raises(ValueError, match="only one"):
        DataLoader(parquet_files, rank=0, world_size=1, mesh=mesh)
    with pytest.raises(ValueError, match="only one"):
        DataLoader(parquet_files, process_group=dist.group.WORLD, mesh=mesh)
    with pytest.raises(ValueError, match="not a Zenith dataset"):
        DataLoader([1, 2, 3], mesh=mesh)
    with pytest.raises(ValueError, match="rank must be below"):
        len(DataLoader(parquet_files, rank=2, world_size=2))


def test_no_environment_variable_is_needed(parquet_files: Path) -> None:
    assert "RANK" not in os.environ
    assert "rank 0 of 1" in DataLoader(parquet_files).explain()
