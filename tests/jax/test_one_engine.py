"""torch and JAX in one process have one engine: one library, one registry, one set of threads for an epoch, whoever asks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CODE = """
import json, os, sys
import torch, zenith, zenith_jax, zenith_torch
from zenith import _engine
from zenith_torch._ops import next_batch

zenith_jax.register()
libraries = {}
for line in open("/proc/self/maps"):
    fields = line.split()
    if len(fields) == 6 and "x" in fields[1] and os.path.basename(os.path.dirname(fields[5])).startswith("zenith"):
        libraries.setdefault(os.path.basename(fields[5]), set()).add((fields[3], fields[4], fields[5]))
names = {name.split(".")[0]: len(places) for name, places in libraries.items()}
assert names == {"_engine": 1, "_C": 1, "_xla": 1}, libraries


def threads():
    found = [open(f"/proc/self/task/{task}/comm").read().strip() for task in os.listdir("/proc/self/task")]
    return sorted(name for name in found if name.startswith("zenith"))


before = threads()
dataset = zenith.open(sys.argv[1])
options = {"batch_size": 100, "shuffle": True, "seed": 3, "num_workers": 2}
loader = _engine.Loader(dataset._engine, json.dumps(options))
whole, epoch = loader.epoch(0, 0), loader.epoch(0, 0)
wanted, found, field = [], [], [info.name for info in dataset.schema].index("id")
while (answer := _engine.next_parts(whole.id, 1000))[0] != 2:
    wanted.append(torch.from_dlpack(answer[1][field]).tolist())
# The same epoch, asked in turns through torch's door and JAX's.
torch_turn = True
while True:
    if torch_turn:
        fields, status = next_batch(epoch.id, 1000)
        over, ids = status == 2, fields[field].tolist() if fields else None
    else:
        status, parts = _engine.next_parts(epoch.id, 1000)
        over, ids = status == 2, torch.from_dlpack(parts[field]).tolist() if parts else None
    if over:
        break
    if ids is not None:
        found.append(ids)
        torch_turn = not torch_turn
assert found == wanted and len(found) > 90, (len(found), len(wanted))

# An epoch of each framework: two threads each, and none of their own beside them.
# Little is made ahead, so that they are not done before they are counted.
few = {"num_workers": 2, "prefetch_factor": 1}
ours, theirs = zenith_torch.DataLoader(dataset, 100, **few), zenith_jax.DataLoader(dataset, 100, **few)
whole.close(), epoch.close()
one, other = iter(ours), iter(theirs)
next(one), next(other)
assert len(threads()) - len(before) == 4, (before, threads())
del one, other
assert threads() == before, threads()
"""


def test_both_frameworks_share_the_engine(parquet_files: Path) -> None:
    command = [sys.executable, "-c", CODE, str(parquet_files)]
    found = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert found.returncode == 0, found.stderr
