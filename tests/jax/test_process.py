"""What a loader is in a process: Ctrl-C, exits, forks, threads; and several processes that share an epoch."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import zenith
from zenith import _engine
from zenith_jax import DataLoader
from zenith_jax.arrays import Arrays

from tests.jax.meshes import flat, ids

ROWS = 10_007
MOMENTS = int(os.environ.get("ZENITH_SOAK", "4"))

# Ends at Ctrl-C by itself, and says how many threads of the engine are left.
INTERRUPTED = """
import os, sys, time
import jax
from zenith_jax import DataLoader
jax.devices()
def decoding():
    return [t for t in os.listdir("/proc/self/task") if open(f"/proc/self/task/{t}/comm").read().startswith("zenith-dec")]
loader = DataLoader(sys.argv[1], 8, num_workers=2, shuffle=True)
print("ready", flush=True)
try:
    while True:
        for batch in loader:
            pass
except KeyboardInterrupt:
    began = time.monotonic()
    batch = None
    del loader
    while decoding() and time.monotonic() < began + 1:
        time.sleep(0.001)
    sys.exit(len(decoding()))
"""


def start(code: str, *arguments: object, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env={**os.environ, **environment}, **pipes)


def test_ctrl_c_at_random_moments(parquet_files: Path) -> None:
    random = np.random.default_rng(7)
    for _ in range(MOMENTS):
        process = start(INTERRUPTED, parquet_files)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(random.random() * 0.3)
        sent = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
        # Most of it is the end of the interpreter, with jax in it.
        assert time.monotonic() - sent < 10


def test_a_batch_that_ctrl_c_kept_back_comes_again(parquet_files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loader = DataLoader(zenith.Parquet(parquet_files, columns=["id"]), 1000, tail="fill", mask="mask")
    whole = [np.asarray(batch["mask"]).sum() for batch in loader]
    assert whole == [1000] * 10 + [7]
    loader.set_epoch(0)
    batches, seen = iter(loader), []
    make = Arrays.batch
    for number in range(11):

        def interrupted(arrays: Arrays, parts: list[_engine.Part]) -> dict[str, object]:
            monkeypatch.setattr(Arrays, "batch", make)
            raise KeyboardInterrupt

        monkeypatch.setattr(Arrays, "batch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            next(batches)
        assert loader.state_dict()["position"] == 1000 * number
        batch = next(batches)
        seen += np.asarray(batch["id"])[np.asarray(batch["mask"])].tolist()
    assert seen == list(range(ROWS))
    assert next(batches, None) is None


@pytest.mark.parametrize(
    ("ending", "status"),
    [
        ("", 0),
        ("for batch in iterator: sys.exit(7)", 7),
        ("cycle = [iterator]; cycle.append(cycle); del iterator, cycle", 0),
        ("kept = list(loader); print(len(kept), file=sys.stderr) if len(kept) != 1001 else None", 0),
        # The batches are kept: jax may give the GIL up while it frees an array, which while the interpreter ends is fatal
        # (before Python 3.14) in any daemon thread.
        ("threading.Thread(target=lambda: [list(loader) for _ in iter(int, 1)], daemon=True).start()", 0),
        (
            "import zenith_jax.ahead, zenith_jax.epochs as e; e.is_worthwhile = lambda _: True; b = iter(loader); next(b)",
            0,
        ),
    ],
)
def test_exits_with_a_live_iterator(parquet_files: Path, ending: str, status: int) -> None:
    code = "import atexit, sys, threading, time\nfrom zenith_jax import DataLoader\n"
    code += "loader = DataLoader(sys.argv[1], 10, num_workers=2, shuffle=True)\n"
    code += "iterator = iter(loader)\nnext(iterator)\n"
    code += f"atexit.register(lambda: print(time.monotonic(), flush=True))\n{ending}\n"
    process = start(code, parquet_files)
    output, errors = process.communicate(timeout=100)
    took = time.monotonic() - float(output.splitlines()[-1])
    assert (process.returncode, errors) == (status, "")
    assert took < 10, "an exit with live threads does not wait for them"


def test_a_forked_child_has_no_iterator_and_may_make_one(parquet_files: Path) -> None:
    code = """
import os, sys, warnings
import zenith
from zenith_jax import DataLoader
warnings.simplefilter("ignore")  # jax tells of the fork.
loader = DataLoader(sys.argv[1], 10, num_workers=2)
iterator = iter(loader)
kept = next(iterator)
child = os.fork()
if child == 0:
    try:
        next(iterator)
        os._exit(1)
    except zenith.ForkedEngineError:
        pass
    del kept
    own = zenith.open(sys.argv[1])
    os._exit(0 if own[12]["id"] == 12 and loader.dataset[3]["id"] == 3 else 2)
status = os.waitpid(child, 0)[1]
rest = sum(len(batch["id"]) for batch in iterator)
sys.exit(status or rest != 10007 - 10)
"""
    process = start(code, parquet_files)
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 0, errors


@pytest.mark.usefixtures("time_limit")
def test_threads_share_an_iterator(parquet_files: Path) -> None:
    iterator = iter(DataLoader(zenith.Parquet(parquet_files, columns=["id"]), 10, num_workers=2))
    seen: list[list[list[int]]] = []
    threads = [threading.Thread(target=lambda: seen.append(ids(iterator))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(flat([flat(batches) for batches in seen])) == list(range(ROWS))


SHARED = """
import json, sys
import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
import zenith
from zenith_jax import DataLoader
port, process, path, replicas, state = sys.argv[1:]
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(f"127.0.0.1:{port}", 2, int(process))
devices = np.array(jax.devices()).reshape(-1, int(replicas))
sharding = NamedSharding(Mesh(devices, ("data", "model")), PartitionSpec("data"))
loader = DataLoader(zenith.Parquet(path, columns=["id"]), 480, shuffle=True, seed=9, sharding=sharding, mask="mask")
loader.load_state_dict(json.loads(state))
total, seen = 0, []
for batch in loader:
    # All processes together; and what is here.
    total += int(jax.jit(lambda ids, mask: (ids * mask).sum())(batch["id"], batch["mask"]))
    shards = {shard.index[0].start or 0: shard for shard in batch["id"].addressable_shards}
    masks = {shard.index[0].start or 0: shard for shard in batch["mask"].addressable_shards}
    seen.append([np.asarray(shards[start].data)[np.asarray(masks[start].data)].tolist() for start in sorted(shards)])
print(json.dumps([total, seen, loader.stats()["decoded_samples"], loader.state_dict()]))
"""


@pytest.mark.parametrize("replicas", [2, 4])
def test_two_processes_share_an_epoch(parquet_files: Path, replicas: int) -> None:
    """Four devices each: with four replicas a process has one shard, with two it has two."""
    dataset = zenith.Parquet(parquet_files, columns=["id"])
    alone = DataLoader(dataset, 64, shuffle=True, seed=9)
    batches = iter(alone)
    for _ in range(10):
        next(batches)
    state = json.dumps(alone.state_dict())
    rest = flat(ids(batches))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    processes = [start(SHARED, port, number, parquet_files, replicas, state, **flags) for number in range(2)]
    ended = [process.communicate(timeout=200) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], ended
    results = [json.loads(output.splitlines()[-1]) for output, _ in ended]
    assert [result[0] for result in results] == [sum(rest)] * 2
    assert results[0][3] == results[1][3]
    # A shard is read by the process of its devices alone: together they have every sample once.
    own = [flat([flat(batch) for batch in result[1]]) for result in results]
    assert sorted(own[0] + own[1]) == sorted(rest)
