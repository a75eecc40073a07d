"""The two servers, each in a process of its own, and the CPU time of the thread that serves."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

TORCH = """
import sys
from torch.distributed import TCPStore
store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
assert store.libuvBackend
print(store.port, flush=True)
sys.stdin.read()
"""


@dataclass(frozen=True)
class Server:
    name: str
    port: int
    pid: int
    thread: int

    def cpu_seconds(self) -> float:
        """What its thread has used so far; torch's process has others, which do not serve."""
        return int(Path(f"/proc/{self.pid}/task/{self.thread}/schedstat").read_text().split()[0]) / 1e9


def build() -> Path:
    """The program of `rust/zenith-cluster/examples/store.rs`, optimised."""
    command = ["cargo", "build", "--release", "--locked", "-p", "zenith-cluster", "--example", "store"]
    messages = subprocess.run(
        [*command, "--message-format=json"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    found = [json.loads(line).get("executable") for line in messages.splitlines()]
    return Path(next(path for path in found if path))


def thread_of(pid: int, name: str) -> int:
    """A thread gives itself its name, perhaps after the port was told."""
    for _ in range(1000):
        for task in Path(f"/proc/{pid}/task").iterdir():
            if (task / "comm").read_text().strip() == name:
                return int(task.name)
        time.sleep(0.01)
    raise LookupError(f"process {pid} has no thread {name}")


@contextmanager
def running(name: str, command: list[str], thread_name: str) -> Iterator[Server]:
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        port = int(process.stdout.readline())
        yield Server(name, port, process.pid, thread_of(process.pid, thread_name))
    finally:
        process.stdin.close()
        process.wait(30)
        process.stdout.close()


@contextmanager
def both() -> Iterator[list[Server]]:
    with (
        running("zenith", [str(build())], "zenith-store") as ours,
        running("torch", [sys.executable, "-c", TORCH], "pt_tcpstore_uv") as theirs,
    ):
        yield [ours, theirs]
