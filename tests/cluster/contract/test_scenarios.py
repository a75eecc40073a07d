"""What torch's own suite asks of its launcher, as far as it can be seen from outside, asked of ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from torch.distributed import is_torchelastic_launched

SECONDS = 120.0
SAYS = """
import json, os, sys
names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "ROLE_NAME", "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID")
os.write(1, json.dumps([{name: os.environ[name] for name in names}, __name__, sys.argv[1:]]).encode() + b"\\n")
"""
Launch = Callable[..., list[list]]


@pytest.fixture
def launch(zenith_run: str, tmp_path: Path) -> Launch:
    """What each rank said of itself, in their order."""
    (tmp_path / "says.py").write_text(SAYS)

    def launch(line: str, **variables: str) -> list[list]:
        environment = os.environ | {"TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1", "PYTHON_EXEC": sys.executable}
        done = subprocess.run(
            [zenith_run, *line.split()],
            env=environment | variables,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
        assert done.returncode == 0, done.stderr
        return sorted(map(json.loads, done.stdout.splitlines()), key=lambda said: int(said[0]["RANK"]))

    return launch


def test_a_script_and_a_module(launch: Launch) -> None:
    for line in ("says.py --a b", "-m says --a b"):
        said = launch(f"--nproc-per-node=2 --role=trainer {line}")
        assert [one[0]["RANK"] for one in said] == ["0", "1"]
        assert {(one[0]["WORLD_SIZE"], one[0]["ROLE_NAME"], one[1], *one[2]) for one in said} == {
            ("2", "trainer", "__main__", "--a", "b")
        }


def test_one_rank_unless_it_is_said(launch: Launch) -> None:
    [said] = launch("says.py")
    assert (said[0]["RANK"], said[0]["WORLD_SIZE"]) == ("0", "1")


def test_flags_of_the_first_launchers(launch: Launch) -> None:
    """Static, as scripts from before torchrun have it: underscores, a node rank, an address."""
    said = launch(
        "--nnodes=1 --nproc_per_node=2 --node_rank=0 --master_addr=localhost --master_port=0 --monitor_interval=1 "
        "--start_method=fork says.py"
    )
    assert [(one[0]["RANK"], one[0]["MASTER_ADDR"], one[0]["TORCHELASTIC_RUN_ID"]) for one in said] == [
        ("0", "localhost", "none"),
        ("1", "localhost", "none"),
    ]


def test_everything_by_the_environment(launch: Launch) -> None:
    said = launch(
        "says.py",
        PET_NNODES="1",
        PET_NPROC_PER_NODE="2",
        PET_RDZV_ID="seven",
        PET_RDZV_BACKEND="c10d",
        PET_RDZV_ENDPOINT="localhost:0",
        PET_MONITOR_INTERVAL="1",
        PET_START_METHOD="fork",
    )
    assert [one[0]["TORCHELASTIC_RUN_ID"] for one in said] == ["seven", "seven"]


def test_as_many_ranks_as_cores(launch: Launch) -> None:
    for number in ("cpu", "auto"):
        said = launch(f"--nproc-per-node={number} says.py", CUDA_VISIBLE_DEVICES="-1")
        if number == "cpu" or not os.path.exists("/dev/nvidia0"):
            assert len(said) == len(os.sched_getaffinity(0))


MEETS = """
import datetime, os, sys, torch, torch.distributed as dist
assert dist.is_torchelastic_launched()
tcp = f"tcp://{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
ranks = {"rank": int(os.environ["RANK"]), "world_size": int(os.environ["WORLD_SIZE"])}
options = {"default": {}, "env": {"init_method": "env://"}, "tcp": {"init_method": tcp, **ranks}}[sys.argv[1]]
dist.init_process_group("gloo", timeout=datetime.timedelta(seconds=30), **options)
total = torch.tensor([dist.get_rank() + 1.0])
dist.all_reduce(total)
dist.barrier()
assert total.item() == 3.0
dist.destroy_process_group()
os.write(1, b'[{"RANK": "%d"}]\\n' % ranks["rank"])
"""


@pytest.mark.parametrize("method", ["default", "env", "tcp"])
def test_groups_form_by_the_environment_and_by_address(launch: Launch, tmp_path: Path, method: str) -> None:
    """TP-1: torch's clients of the launcher's store. A run for each: a second group would find the addresses of the first there."""
    (tmp_path / "meets.py").write_text(MEETS)
    said = launch(f"--nproc-per-node=2 meets.py {method}", GLOO_SOCKET_IFNAME="lo")
    assert [one[0]["RANK"] for one in said] == ["0", "1"]
    assert not is_torchelastic_launched(), "only where there is a launcher"


def test_a_logs_specs_that_is_nobodys_is_torchs_error(zenith_run: str, tmp_path: Path) -> None:
    """What is Python's comes out as Python says it."""
    command = [zenith_run, f"--python={sys.executable}", "--logs-specs=nobody", "x.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 1
    assert "Could not find entrypoint under 'torchrun.logs_specs[nobody]' key" in done.stderr
