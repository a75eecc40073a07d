"""Launchers on addresses of the loopback, which stand for nodes."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

SECONDS = 30.0
VARIABLES = ["RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE", "MASTER_ADDR"]
VARIABLES += ["MASTER_PORT", "TORCHELASTIC_RESTART_COUNT", "TORCHELASTIC_USE_AGENT_STORE", "TORCHELASTIC_RUN_ID"]
VARIABLES += ["JAX_COORDINATOR_ADDRESS"]
SAY = " ".join(f"{name}=${name}" for name in VARIABLES)


@dataclass
class Node:
    process: subprocess.Popen[bytes]
    folder: Path

    @property
    def stdout(self) -> str:
        return (self.folder / "stdout").read_text()

    @property
    def stderr(self) -> str:
        return (self.folder / "stderr").read_text()

    def ranks(self) -> list[dict[str, str]]:
        """What every rank that started here was given, in the order of their starts."""
        lines = [line for line in self.stdout.splitlines() if line.startswith("RANK=")]
        return [dict(pair.split("=", 1) for pair in line.split(" ")) for line in lines]

    def waits_for(self, pattern: str, count: int = 1) -> None:
        until = time.monotonic() + SECONDS
        while len(re.findall(pattern, self.stdout + self.stderr)) < count:
            assert time.monotonic() < until, f"no {pattern}: {self.stdout}{self.stderr}"
            time.sleep(0.01)

    def code(self) -> int:
        return self.process.wait(SECONDS)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


Start = Callable[..., Node]


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture
def start(zenith_run: str, tmp_path: Path, port: int) -> Iterator[Start]:
    """Starts a node: `do` is a line of shell for each rank, after it has told its environment."""
    nodes: list[Node] = []

    def start(do: str, *arguments: str, backend: str = "c10d", **variables: str) -> Node:
        folder = tmp_path / str(len(nodes))
        folder.mkdir()
        meeting = {
            "c10d": ["--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{port}", "--rdzv-id=test"],
            "static": ["--master-addr=127.0.0.1", f"--master-port={port}"],
            "none": [],
        }[backend]
        command = [zenith_run, "--nproc-per-node=2", *meeting, *arguments, f"--log-dir={folder / 'logs'}"]
        command += ["--shutdown-timeout=5", "--no-python", "bash", "-c", f'echo "{SAY}"; {do}']
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHON": sys.executable} | variables
        with (folder / "stdout").open("wb") as stdout, (folder / "stderr").open("wb") as stderr:
            process = subprocess.Popen(command, env=environment, stdout=stdout, stderr=stderr)
        nodes.append(Node(process, folder))
        return nodes[-1]

    yield start
    for node in nodes:
        if node.process.poll() is None:
            node.kill()
