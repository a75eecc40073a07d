"""`jax.distributed` under zenith-run: two real processes on the CPU, over gloo."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SECONDS = 100
DEVICES = 2
PROGRAM = Path(__file__).with_name("sums.py")
Run = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def run(zenith_run: str, tmp_path: Path) -> Run:
    """What the ranks of a run saw that must end well, in the order of attempts and ranks."""

    def run(*arguments: str, flags: tuple[str, ...] = ()) -> list[dict[str, Any]]:
        environment = os.environ | {
            "PYTHON_EXEC": sys.executable,
            "OMP_NUM_THREADS": "1",
            "JAX_PLATFORMS": "cpu",
            "JAX_CPU_COLLECTIVES_IMPLEMENTATION": "gloo",
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={DEVICES}",
        }
        command = [zenith_run, "--nproc-per-node=2", "--shutdown-timeout=1", *flags, str(PROGRAM), *arguments]
        done = subprocess.run(
            command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=SECONDS, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return [json.loads(path.read_text()) for path in sorted(tmp_path.glob("*.json"))]

    return run


def check(seen: dict[str, Any], rank: int, rounds: int) -> None:
    assert (seen["rank"], seen["process"], seen["processes"]) == (rank, rank, 2)
    assert seen["devices"] == 2 * DEVICES
    assert seen["sums"] == [DEVICES * (1.0 + 2.0)] * rounds


@pytest.mark.parametrize("way", ["zenith", "plain"])
def test_two_processes_sum_over_their_devices(run: Run, way: str) -> None:
    said = run(way, "2")
    for rank, seen in enumerate(said):
        check(seen, rank, 2)
    assert len(said) == 2
    assert said[0]["coordinator"] == said[1]["coordinator"]


def test_a_restart_meets_at_a_new_coordinator(run: Run) -> None:
    """Rank 1 dies in mid-run, when rank 0 waits for it in a collective; the second attempt starts from nothing."""
    said = run("zenith", "3", "1", flags=("--max-restarts=1",))
    assert [(seen["attempt"], seen["rank"]) for seen in said] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    for seen in said:
        check(seen, seen["rank"], 2 if seen["attempt"] == 0 else 3)
    first, second = ({seen["coordinator"] for seen in said if seen["attempt"] == attempt} for attempt in (0, 1))
    assert len(first) == len(second) == 1
    assert first != second
