"""Ranks of gloo groups whose store is already there, as under the launcher. They are forked: importing torch takes longest.

Reads lines of JSON: one attempt each, with the seconds that each rank waits before it starts. Answers by what failed, by rank.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from datetime import timedelta

import torch
import torch.distributed as dist


def rank_of_attempt(rank: int, world_size: int, port: int, attempt: int, timeout_s: float) -> None:
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_RESTART_COUNT": str(attempt),
        "RANK": str(rank),
        "WORLD_SIZE": str(world_size),
        "GLOO_SOCKET_IFNAME": "lo",
    }
    dist.init_process_group("gloo", timeout=timedelta(seconds=timeout_s))
    total = torch.tensor([rank + 1.0])
    dist.all_reduce(total)
    assert total.item() == world_size * (world_size + 1) / 2
    even = list(range(0, world_size, 2))
    group = dist.new_group(even)
    if rank in even:
        seen = [torch.zeros(1) for _ in even]
        dist.all_gather(seen, torch.tensor([float(rank)]), group=group)
        assert [int(value) for value in seen] == even
    objects: list[object] = [None] * world_size
    dist.all_gather_object(objects, {"rank": rank})
    assert objects == [{"rank": other} for other in range(world_size)]
    for _ in range(3):
        dist.barrier()
    dist.monitored_barrier()
    dist.destroy_process_group()


def run(port: int, attempt: int, delays_s: list[float], timeout_s: float) -> dict[int, str]:
    """What failed. A rank that is not done long after its time is ended."""
    pids = {}
    readers = {}
    for rank, delay_s in enumerate(delays_s):
        reader, writer = os.pipe()
        if (pid := os.fork()) == 0:
            status = 1
            try:
                time.sleep(delay_s)
                rank_of_attempt(rank, len(delays_s), port, attempt, timeout_s)
                status = 0
            except BaseException:
                os.write(writer, traceback.format_exc().encode()[-4000:])
            finally:
                os._exit(status)
        os.close(writer)
        pids[rank], readers[rank] = pid, reader
    failed = {}
    for rank, reader in readers.items():
        with open(reader, "rb") as pipe:
            text = pipe.read().decode(errors="replace")
        _, status = os.waitpid(pids[rank], 0)
        if status:
            failed[rank] = text or f"status {status}"
    return failed


if __name__ == "__main__":
    torch.set_num_threads(1)
    for line in sys.stdin:
        print(json.dumps(run(**json.loads(line))), flush=True)
