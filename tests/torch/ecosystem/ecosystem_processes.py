"""Runs functions of the test files in processes of their own: alone, or as the ranks of a zenith-run.

Trainers keep global state, set environment variables and start workers, so each program gets fresh processes. They are
forked from one server that has imported the trainers and done nothing else: importing them takes longer than the programs do.
What zenith-run starts for a rank is therefore a stand-in: it has a process forked with its own environment, and ends as that does.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

TRAINERS = ("datasets", "accelerate", "lightning", "transformers.trainer")
SECONDS_MAX = 100


class Server:
    """The process that the others are forked from; use it as a context."""

    def __init__(self, zenith_run: str) -> None:
        self._zenith_run = zenith_run

    def __enter__(self) -> Server:
        self._folder = tempfile.TemporaryDirectory()
        self._address = f"{self._folder.name}/server"
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self._address)
            listener.listen()
            command = [sys.executable, "-W", "ignore", __file__, "serve", str(listener.fileno())]
            self._process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, pass_fds=[listener.fileno()]
            )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()
        self._folder.cleanup()

    def run(self, function: Callable[..., Any], world: int = 1, **arguments: Any) -> list[Any]:
        """The result of ``function(**arguments)`` in each of ``world`` processes; arguments and results are JSON."""
        program = sys.modules[function.__module__].__file__
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "job").write_text(json.dumps([program, function.__name__, arguments]))
            stand_in = [__file__, "stand-in", self._address, folder]
            launcher = [self._zenith_run, f"--nproc-per-node={world}"] if world > 1 else [sys.executable]
            environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHON_EXEC": sys.executable}
            done = subprocess.run(
                [*launcher, *stand_in], env=environment, capture_output=True, text=True, timeout=2 * SECONDS_MAX
            )
            texts = [path.read_text() for path in sorted(Path(folder).glob("*.txt"))]
            assert done.returncode == 0, "\n".join([done.stderr, *texts])
            return [json.loads(Path(folder, f"{rank}.json").read_text()) for rank in range(world)]


def stand_in(address: str, folder: str) -> None:
    """Has a process started with the environment of this one, and ends with its status."""
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(address)
        server.sendall(json.dumps([folder, dict(os.environ)]).encode() + b"\n")
        told = server.recv(16)
    sys.exit(int(told) if told else "the process was not waited for to its end")


def serve(descriptor: int) -> None:
    """Forks a process for each connection and tells it the exit code. If the connection ends, or time is up, it is killed."""
    for name in TRAINERS:
        importlib.import_module(name)
    listener = socket.socket(fileno=descriptor)
    listener.set_inheritable(False)
    children: dict[int, tuple[socket.socket, float]] = {}
    while True:
        connections = {connection: child for child, (connection, _) in children.items()}
        ready, _, _ = select.select([listener, *connections], [], [], 0.01 if children else None)
        if listener in ready:
            connection, _ = listener.accept()
            with connection.makefile() as lines:
                folder, environment = json.loads(lines.readline())
            children[start(folder, environment)] = (connection, time.monotonic() + SECONDS_MAX)
        late = {child for child, (_, until) in children.items() if time.monotonic() > until}
        for child in late | {connections[connection] for connection in ready if connection is not listener}:
            os.kill(child, signal.SIGKILL)
        for child, (connection, _) in list(children.items()):
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid:
                del children[child]
                with connection, contextlib.suppress(BrokenPipeError):
                    # A negative one is a signal's, which is no exit code.
                    connection.sendall(str(abs(os.waitstatus_to_exitcode(status))).encode())


def start(folder: str, environment: dict[str, str]) -> int:
    child = os.fork()
    if child:
        return child
    code = 1
    rank = environment.get("RANK", "0")
    with open(f"{folder}/{rank}.txt", "w") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
        try:
            os.environ.clear()
            os.environ.update(environment)
            os.chdir(folder)
            program, name, arguments = json.loads(Path(folder, "job").read_text())
            found = getattr(module_of(Path(program)), name)(**arguments)
            Path(folder, f"{rank}.json").write_text(json.dumps(found))
            code = 0
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def module_of(path: Path) -> Any:
    """The test file under its own name, by which classes of it are found when they are unpickled."""
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(int(sys.argv[2]))
    else:
        stand_in(*sys.argv[2:])
