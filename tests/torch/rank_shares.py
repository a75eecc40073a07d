"""What a rank of zenith-run gets in every way of saying who it is: `rank_shares.py TABLE FOLDER` leaves it in a file."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch.distributed as dist
import zenith
from torch.distributed.device_mesh import init_device_mesh
from zenith_torch import DataLoader


def shares(path: str, out: str) -> None:
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    dataset = zenith.Parquet(path, columns=["id"])
    found: dict[str, object] = {}

    def read(name: str, **options: object) -> None:
        loader = DataLoader(dataset, batch_size=100, shuffle=True, seed=3, **options)
        expected = f"rank {loader.sampler.rank} of {loader.sampler.num_replicas}"
        assert expected in loader.explain()
        found[name] = [len(loader), [i for batch in loader for i in batch["id"].tolist()]]

    read("torch.distributed")
    read("mesh", mesh=init_device_mesh("cpu", (world,)))
    tensor_parallel = init_device_mesh("cpu", (2, world // 2), mesh_dim_names=("tp", "dp"))
    read("dp of two", mesh=tensor_parallel)
    read("first of two", mesh=init_device_mesh("cpu", (world // 2, 2)))
    read("hybrid", mesh=init_device_mesh("cpu", (2, world // 2), mesh_dim_names=("dp_replicate", "dp_shard")))
    read("group", process_group=tensor_parallel.get_group("dp"))
    read("arguments", rank=1, world_size=3)
    outsiders = dist.new_group([0])
    if rank > 0:
        with pytest.raises(ValueError, match="not a member"):
            len(DataLoader(dataset, process_group=outsiders))
    (Path(out) / f"{rank}.json").write_text(json.dumps(found))
    dist.destroy_process_group()


if __name__ == "__main__":
    shares(*sys.argv[1:])
