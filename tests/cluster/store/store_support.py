"""A store of ours as a process, and how to speak to it without torch."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import TracebackType

from torch.distributed import TCPStore

ROOT = Path(__file__).parents[3]


def build() -> Path:
    """`rust/zenith-cluster/examples/store.rs`, wherever cargo puts it."""
    command = ["cargo", "build", "--locked", "-p", "zenith-cluster", "--example", "store", "--message-format=json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line).get("executable") for line in done.stdout.splitlines()]
    return Path(next(path for path in found if path))


class Store:
    """Runs while it is a context."""

    def __init__(self, program: Path, preexec: Callable[[], None] | None = None) -> None:
        pipe = subprocess.PIPE
        self.process = subprocess.Popen([program], stdin=pipe, stdout=pipe, text=True, preexec_fn=preexec)
        self.port = int(self._line())

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def _ask(self, command: str) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return self._line()

    def renew(self) -> None:
        assert self._ask("renew") == "renewed"

    def refusals(self) -> tuple[int, str]:
        count, _, last = self._ask("refusals").partition(" ")
        return int(count), last

    def memory_kib(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])

    def client(self, timeout_s: float = 20) -> TCPStore:
        return client(self.port, timeout_s)

    def __enter__(self) -> Store:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, traceback: TracebackType | None) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        status = self.process.wait(20)
        self.process.stdout.close()
        assert kind or status == 0


def client(port: int, timeout_s: float = 20) -> TCPStore:
    timeout = timedelta(seconds=timeout_s)
    return TCPStore("127.0.0.1", port, is_master=False, wait_for_workers=False, timeout=timeout)


GREETING = struct.pack("=BI", 0, 0x3C85F7CE)


def text(data: bytes) -> bytes:
    return struct.pack("=Q", len(data)) + data


def raw(port: int, greeting: bytes = GREETING) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=20)
    connection.sendall(greeting)
    return connection


def until_closed(connection: socket.socket) -> bytes:
    """What came before the server closed; it hangs up hard if it had not read everything."""
    parts = []
    try:
        while part := connection.recv(1 << 16):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)
