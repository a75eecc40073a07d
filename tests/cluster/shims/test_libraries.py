"""Commands of Accelerate and Lightning Fabric, unedited, with ranks that reduce over gloo (TY-1, TY-2)."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import SECONDS

ACCELERATE = """
import os, sys, torch
from accelerate import Accelerator
accelerator = Accelerator(cpu=True)
rank = accelerator.process_index
total = accelerator.reduce(torch.tensor([rank + 1.0]), "sum")
"""
FABRIC = """
import os, sys, torch
from lightning.fabric import Fabric
fabric = Fabric()
rank = fabric.global_rank
total = fabric.all_reduce(torch.tensor([rank + 1.0]), reduce_op="sum")
"""
# In one piece, as two ranks share the stream.
END = """
os.write(1, b"rank %d: %d %s\\n" % (rank, int(total), " ".join(sys.argv[1:]).encode()))
torch.distributed.barrier()
torch.distributed.destroy_process_group()
sys.exit(7 if rank == 1 and sys.argv[1] == "fail" else 0)
"""


def port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def accelerate() -> list[str]:
    return [
        *["accelerate", "launch", "--multi_gpu", "--num_processes=2", "--num_machines=1", "--mixed_precision=no"],
        "--dynamo_backend=no",
        "--main_process_port",
        port(),
    ]


def fabric() -> list[str]:
    return [*["fabric", "run", "--accelerator=cpu", "--strategy=ddp", "--devices=2", "--main-port"], port()]


@pytest.mark.parametrize(
    ("script", "command", "package"),
    [(ACCELERATE, accelerate, "accelerate"), (FABRIC, fabric, "lightning")],
    ids=["accelerate", "fabric"],
)
@pytest.mark.parametrize("ending", ["succeed", "fail"])
def test_its_command_launches_by_ours(
    script: str, command: Callable[[], list[str]], package: str, ending: str, tmp_path: Path
) -> None:
    pytest.importorskip(package)
    (tmp_path / "train.py").write_text(script + END)
    line = [sys.executable, "-m", "zenith.torchrun.patched", *command(), "train.py", ending, "--", "$x"]
    # No configuration of the user's.
    environment = os.environ | {"HF_HOME": str(tmp_path), "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=2 * SECONDS)
    said = sorted(text for text in done.stdout.splitlines() if text.startswith("rank "))
    arguments = f"{ending} $x" if package == "lightning" else f"{ending} -- $x"
    assert said == [f"rank {rank}: 3 {arguments}" for rank in range(2)], done.stderr
    if ending == "succeed":
        assert done.returncode == 0, done.stderr
        return
    assert done.returncode == 1
    assert "zenith-run: rank 1 " in done.stderr, "ours was used"
    assert "torch.distributed.elastic.multiprocessing.errors.ChildFailedError: \n" in done.stderr
    assert "train.py FAILED" in done.stderr
    root = done.stderr.split("Root Cause (first observed failure):", 1)[1]
    assert re.search(r"rank      : 1 \(local_rank: 1\)\n  exitcode  : 7 ", root)
