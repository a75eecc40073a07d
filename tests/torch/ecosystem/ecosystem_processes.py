"""Runs functions of the test files in processes of their own, with the environment that torchrun gives.

Trainers keep global state, set environment variables and start workers, so each program gets fresh processes. They are
forked from one server that has imported the trainers and done nothing else: importing them takes longer than the programs do.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import os
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

    def __enter__(self) -> Server:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-W", "ignore", __file__]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.communicate()

    def run(self, function: Callable[..., Any], world: int = 1, **arguments: Any) -> list[Any]:
        """The result of ``function(**arguments)`` in each of ``world`` processes; arguments and results are JSON."""
        program = sys.modules[function.__module__].__file__
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with tempfile.TemporaryDirectory() as folder, socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
            probe.close()
            job = [program, function.__name__, arguments, world, port, folder]
            print(json.dumps(job), file=self._process.stdin, flush=True)
            codes = json.loads(self._process.stdout.readline() or "null")
            texts = [path.read_text() for path in sorted(Path(folder).glob("*.txt"))]
            assert codes == [0] * world, "\n".join([f"the processes ended with {codes}", *texts])
            return [json.loads(Path(folder, f"{rank}.json").read_text()) for rank in range(world)]


def serve() -> None:
    """Answers each job on the standard input with the exit codes of its processes."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # What libraries print is no answer.
    for name in TRAINERS:
        importlib.import_module(name)
    for line in sys.stdin:
        program, name, arguments, world, port, folder = json.loads(line)
        children = [start(program, name, arguments, rank, world, port, folder) for rank in range(world)]
        print(json.dumps(wait(children)), file=answers, flush=True)


def start(program: str, name: str, arguments: Any, rank: int, world: int, port: int, folder: str) -> int:
    child = os.fork()
    if child:
        return child
    code = 1
    with open(f"{folder}/{rank}.txt", "w") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
        try:
            if world > 1:
                ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world}
                rendezvous = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "test"}
                os.environ.update({key: str(value) for key, value in (ranks | rendezvous).items()})
            os.chdir(folder)
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


def wait(children: list[int]) -> list[int]:
    """The exit codes; one that takes too long is killed."""
    deadline = time.monotonic() + SECONDS_MAX
    codes: dict[int, int] = {}
    while len(codes) < len(children):
        late = time.monotonic() > deadline
        for child in set(children) - codes.keys():
            if late:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
            pid, status = os.waitpid(child, 0 if late else os.WNOHANG)
            if pid:
                codes[child] = os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    return [codes[child] for child in children]


if __name__ == "__main__":
    serve()
