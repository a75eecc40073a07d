"""`jax.distributed` under zenith-run: two real processes on the CPU, over gloo."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SECONDS = 180
DEVICES = 2
PROGRAM = Path(__file__).with_name("sums.py")
# What JAX looks at. A launcher in a Slurm step is one of its tasks, and its ranks are not.
STEP = {
    "SLURM_JOB_ID": "7",
    "SLURM_STEP_NODELIST": "nowhere",
    "SLURM_NTASKS": "1",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
}


class Launchers:
    """Of one node or several, whose ranks leave in files what they saw."""

    def __init__(self, zenith_run: str, folder: Path) -> None:
        self._zenith_run, self._folder = zenith_run, folder
        self._running: list[subprocess.Popen[str]] = []

    def start(self, arguments: list[str], *flags: str, **variables: str) -> None:
        environment = os.environ | {
            "PYTHON_EXEC": sys.executable,
            "OMP_NUM_THREADS": "1",
            "JAX_PLATFORMS": "cpu",
            "JAX_CPU_COLLECTIVES_IMPLEMENTATION": "gloo",
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={DEVICES}",
        }
        command = [self._zenith_run, "--shutdown-timeout=1", *flags, str(PROGRAM), *arguments]
        self._running.append(
            subprocess.Popen(
                command, env=environment | variables, cwd=self._folder, stdout=-1, stderr=subprocess.STDOUT, text=True
            )
        )

    def seen(self) -> list[dict[str, Any]]:
        """By the ranks, in the order of attempts and ranks; all must end well."""
        for launcher in self._running:
            said, _ = launcher.communicate(timeout=SECONDS)
            assert launcher.returncode == 0, said
        return [json.loads(path.read_text()) for path in sorted(self._folder.glob("*.json"))]

    def stop(self) -> None:
        for launcher in self._running:
            launcher.kill()
            launcher.communicate()


@pytest.fixture
def launchers(zenith_run: str, tmp_path: Path) -> Iterator[Launchers]:
    running = Launchers(zenith_run, tmp_path)
    yield running
    running.stop()


def check(seen: dict[str, Any], rank: int, rounds: int) -> None:
    assert (seen["rank"], seen["process"], seen["processes"]) == (rank, rank, 2)
    assert seen["devices"] == 2 * DEVICES
    assert seen["sums"] == [DEVICES * (1.0 + 2.0)] * rounds


def check_attempt(attempt: list[dict[str, Any]], rounds: int) -> str:
    """Two ranks that agree. Gives back where they met."""
    for rank, seen in enumerate(attempt):
        check(seen, rank, rounds)
    assert len(attempt) == 2
    (coordinator,) = {seen["coordinator"] for seen in attempt}
    return str(coordinator)


@pytest.mark.parametrize(
    ("way", "variables"), [("zenith", {}), ("zenith", STEP), ("plain", {})], ids=["zenith_jax", "in a step", "jax"]
)
def test_two_processes_sum_over_their_devices(launchers: Launchers, way: str, variables: dict[str, str]) -> None:
    launchers.start([way, "2"], "--nproc-per-node=2", **variables)
    check_attempt(launchers.seen(), 2)


def test_two_nodes_meet_at_the_first(launchers: Launchers) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"--rdzv-endpoint=127.0.0.1:{free.getsockname()[1]}"
    for address in ("127.0.0.1", "127.0.0.2"):
        launchers.start(["zenith", "2"], "--nnodes=2", "--rdzv-backend=c10d", endpoint, f"--local-addr={address}")
    assert check_attempt(launchers.seen(), 2).startswith("127.0.0.1:")


def test_a_restart_meets_at_a_new_coordinator(launchers: Launchers) -> None:
    """Rank 1 dies in mid-run, when rank 0 waits for it in a collective; the second attempt starts from nothing."""
    launchers.start(["zenith", "3", "1"], "--nproc-per-node=2", "--max-restarts=1")
    seen = launchers.seen()
    assert [(one["attempt"], one["rank"]) for one in seen] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert check_attempt(seen[:2], 2) != check_attempt(seen[2:], 3)
