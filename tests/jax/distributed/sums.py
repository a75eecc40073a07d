"""What a rank does: joins the others, sums over all devices of the job in every round, and leaves in a file what it saw.

`sums.py zenith|plain ROUNDS [FAIL]`: in the first attempt rank 1 dies after round FAIL, while rank 0 waits for it in the next.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import zenith_jax
from jax.sharding import NamedSharding, PartitionSpec

RANK, WORLD_SIZE = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
ATTEMPT = int(os.environ["TORCHELASTIC_RESTART_COUNT"])
SECONDS = 120


def join(way: str) -> None:
    """By our own function; or by JAX's, which finds the address itself and has to be told the rest."""
    if way == "plain":
        # Else it listens at all addresses of the machine.
        os.environ["JAX_COORDINATOR_BIND_ADDRESS"] = os.environ["JAX_COORDINATOR_ADDRESS"]
        jax.distributed.initialize(num_processes=WORLD_SIZE, process_id=RANK, initialization_timeout=SECONDS)
        return
    zenith_jax.initialize(initialization_timeout=SECONDS)
    zenith_jax.initialize()
    with pytest.raises(RuntimeError, match=f"process_id={RANK} already"):
        zenith_jax.initialize(process_id=RANK + 1)


def total(own: float) -> float:
    """The sum of what all devices hold, `own` on each of this process."""
    mesh = jax.make_mesh((jax.device_count(),), ("all",))
    shards = np.full(jax.local_device_count(), own, np.float32)
    array = jax.make_array_from_process_local_data(NamedSharding(mesh, PartitionSpec("all")), shards)
    added = jax.shard_map(
        lambda x: jax.lax.psum(x, "all"), mesh=mesh, in_specs=PartitionSpec("all"), out_specs=PartitionSpec()
    )
    return float(jax.jit(added)(array).addressable_data(0)[0])


def main(way: str, rounds: str, fail: str = "-1") -> None:
    join(way)
    sums = []
    for number in range(int(rounds)):
        sums.append(total(RANK + 1.0))
        if ATTEMPT == 0 and number == int(fail):
            say(sums)
            total(0.0)  # Both have said it; whoever dies now takes no line of the other along.
            if RANK == 1:
                os._exit(3)
    say(sums)
    jax.distributed.shutdown()


def say(sums: list[float]) -> None:
    seen = {
        "attempt": ATTEMPT,
        "rank": RANK,
        "process": jax.process_index(),
        "processes": jax.process_count(),
        "devices": jax.device_count(),
        "sums": sums,
        "coordinator": os.environ["JAX_COORDINATOR_ADDRESS"],
    }
    Path(f"{ATTEMPT}.{RANK}.json").write_text(json.dumps(seen))  # Gloo talks on the standard output.


if __name__ == "__main__":
    main(*sys.argv[1:])
