"""`zenith-run --warm` with torch itself: a rank that is forked from a template against one that is started."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

DUMP = Path(__file__).parents[2] / "rust/zenith-cluster/tests/gang/dump.py"
SECONDS = 120

# What may differ, and why.
ALLOWED = {
    "/process/block": "an environment begins where its process did: that of the template",
    "/draws/random": "drawn from the operating system in each process",
    "/draws/torch": "drawn from the operating system in each process",
    "/draws/torch's": "drawn from the operating system in each process",
    "/draws/numpy": "drawn from the operating system in each process",
    "/draws/numpy's": "drawn from the operating system in each process",
    "/draws/key": "drawn from the operating system in each process",
    "/numpy/1": "the state that the draws come from",
}
# Without OMP_NUM_THREADS.
POOL = {"/process/status/Threads": "OpenBLAS ends its pool before a fork, and starts it again when it is needed"}
OF_ATTEMPTS = ("TORCHELASTIC_RESTART_COUNT", "TORCHELASTIC_ERROR_FILE", "MASTER_PORT", "JAX_COORDINATOR_ADDRESS")


def differences(path: str, one: Any, other: Any) -> list[tuple[str, Any, Any]]:
    if isinstance(one, dict) and isinstance(other, dict):
        keys = sorted(one.keys() | other.keys())
        return [found for key in keys for found in differences(f"{path}/{key}", one.get(key), other.get(key))]
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return [
            found
            for place, pair in enumerate(zip(one, other, strict=True))
            for found in differences(f"{path}/{place}", *pair)
        ]
    return [] if one == other else [(path, one, other)]


def without_attempt(seen: dict[str, Any]) -> dict[str, Any]:
    """In the order in which the variables stand."""
    variables, raw = seen["process"]["environment"]
    seen["process"]["environment"] = [
        [[name, "" if name in OF_ATTEMPTS else value] for name, value in variables],
        [pair.split(",")[0] if any(name in pair for name in OF_ATTEMPTS) else pair for pair in raw[0]],
    ]
    return seen


@pytest.mark.parametrize("ranks", [2, 1])
def test_a_warm_start_is_a_cold_start(zenith_run: str, tmp_path: Path, ranks: int) -> None:
    seen = tmp_path / "seen"
    seen.mkdir()
    script = [str(DUMP)]
    if ranks == 1:
        shutil.copy(DUMP, tmp_path / "dump.py")
        script = ["-m", "dump"]
    flags = ["--warm", "--max-restarts=1", f"--nproc-per-node={ranks}", "-r", "3", "--log-dir=logs"]
    variables = {"PYTHON_EXEC": sys.executable, "PYTHONHASHSEED": "7", "PYTHONDONTWRITEBYTECODE": "1"}
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"} | variables
    done = subprocess.run(
        [zenith_run, *flags, *script, str(seen), "torch,numpy", "--and", "more"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stderr
    assert "no warm start" not in done.stderr
    turns = [
        [without_attempt(json.loads((seen / f"{rank}.{turn}").read_text())) for rank in range(ranks)] for turn in (0, 1)
    ]
    allowed = ALLOWED.keys() | (POOL.keys() if ranks == 1 else set())
    for cold, warm in zip(*turns, strict=True):
        found = differences("", cold, warm)
        assert [entry for entry in found if not any(entry[0].startswith(path) for path in allowed)] == []
    everybody = [found for turn in turns for found in turn]
    for name in everybody[0]["draws"]:
        assert len({json.dumps(found["draws"][name]) for found in everybody}) == 2 * ranks, name
    for rank in range(ranks):
        (log,) = tmp_path.glob(f"logs/*/attempt_1/{rank}/stdout.log")
        assert log.read_text() == "to stdout\n"


def test_the_second_attempt_has_torch_at_once(zenith_run: str, tmp_path: Path) -> None:
    """A gloo group in forks: its threads, its store and its sums."""
    script = tmp_path / "train.py"
    script.write_text(TRAIN)
    command = [zenith_run, "--warm", "--warm-modules=torch,torch.distributed", "--max-restarts=1", "--nproc-per-node=2"]
    done = subprocess.run(
        [*command, str(script)],
        env=os.environ | {"PYTHON_EXEC": sys.executable},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert (done.returncode, done.stdout) == (0, "sum 3, warm\nsum 3, warm\n"), done.stderr


TRAIN = """
import os, sys, time
is_warm = "torch" in sys.modules
import torch, torch.distributed as dist
dist.init_process_group("gloo")
value = torch.ones(1) * (dist.get_rank() + 1)
dist.all_reduce(value)
torch.rand(300, 300) @ torch.rand(300, 300)
if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
    siblings = f"/proc/{os.getppid()}/task/{os.getppid()}/children"
    is_ready = lambda pid: open(f"/proc/{pid}/comm").read() == "zenith-template\\n"
    while not any(map(is_ready, open(siblings).read().split())):
        time.sleep(0.01)
    dist.barrier()
    os._exit(3)
dist.barrier()
dist.destroy_process_group()
os.write(1, b"sum %d, %s\\n" % (int(value), b"warm" if is_warm else b"cold"))
"""


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--no-python", "--max-restarts=1", "true"], "with --no-python there is no interpreter"),
        (["train.py"], "nothing is started anew without --max-restarts"),
        (["--run-path", "train.py", "--warm"], "--run-path is left to Python's torchrun"),
    ],
)
def test_where_there_is_no_template_it_is_said(zenith_run: str, tmp_path: Path, flags: list[str], reason: str) -> None:
    python = tmp_path / "env/bin/python3"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/bash\necho "$@"\n')
    python.chmod(0o755)
    environment = {"VIRTUAL_ENV": str(tmp_path / "env"), "PATH": os.environ["PATH"]}
    command = [zenith_run, "--warm", "--warm-modules=torch", *flags]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stderr
    assert f"zenith-run: --warm is ignored: {reason}" in done.stderr
    if "--run-path" in flags:
        assert done.stdout == "-m torch.distributed.run --run-path train.py --warm\n"


def test_another_environment_is_a_cold_start(zenith_run: str, tmp_path: Path) -> None:
    """Ranks of one node with different scripts have one template, which is that of the first."""
    for rank in (0, 1):
        (tmp_path / f"script{rank}.py").write_text(TRAIN)
    command = [zenith_run, "--warm", "--max-restarts=1", "--nproc-per-node=2", "script${local_rank}.py"]
    environment = os.environ | {"PYTHON_EXEC": sys.executable}
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == ["sum 3, cold", "sum 3, warm"]
    assert "no warm start: rank 1 runs another script than the template is made for" in done.stderr
