"""Runs a case under a launcher and says what came of it, without what differs from run to run."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .cases import Case

HERE = Path(__file__).parent
SECONDS = 60
Observation = dict[str, Any]


def observe(launcher: list[str], case: Case) -> Observation:
    """What `launcher` makes of `case`, as data that JSON holds."""
    with tempfile.TemporaryDirectory(prefix="launch") as name:
        folder = Path(name)
        for inner in ("observed", "logs", "tmp"):
            (folder / inner).mkdir()
        places = {"{worker}": str(HERE / "worker.sh"), "{folder}": name, "{port}": str(free_port())}
        environment = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": name,
            "TMPDIR": f"{name}/tmp",
            "LC_ALL": "C.UTF-8",
            "TZ": "UTC",
            "OBSERVED": f"{name}/observed",
            "DO": case.do,
        } | {key: fill(value, places) for key, value in case.environment.items()}
        command = launcher + [fill(argument, places) for argument in case.arguments]
        code, stdout, stderr = run(command, environment, folder, case)
        # Where none is asked for, the launcher may well take the one that was free here a moment ago.
        asked = any("{port}" in text for text in (*case.arguments, *case.environment.values()))
        return described(case, folder, places["{port}"] if asked else "", code, stdout, stderr)


def run(command: list[str], environment: dict[str, str], folder: Path, case: Case) -> tuple[int, str, str]:
    """Exit code and output. Output goes to files: a worker that is left over must not keep this waiting."""
    with (folder / "stdout").open("w+b") as stdout, (folder / "stderr").open("w+b") as stderr:
        with few_cores(case.cores):
            process = subprocess.Popen(
                command, env=environment, cwd=folder, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr
            )
        try:
            if case.send:
                deadline = time.monotonic() + SECONDS
                while len(list((folder / "observed").glob("*.ready"))) < case.workers:
                    assert process.poll() is None, "the launcher ended before its workers were ready"
                    assert time.monotonic() < deadline, "the workers were not ready"
                    time.sleep(0.005)
                process.send_signal(signal.Signals[case.send])
            code = process.wait(SECONDS)
        finally:
            process.kill()
            process.wait()
        stdout.seek(0)
        stderr.seek(0)
        return code, stdout.read().decode(errors="replace"), stderr.read().decode(errors="replace")


@contextlib.contextmanager
def few_cores(number: int | None) -> Iterator[None]:
    """What is started inside may use that many cores; what counts cores then gives the same on every machine."""
    all_cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(all_cores)[:number])
    try:
        yield
    finally:
        os.sched_setaffinity(0, all_cores)


def described(case: Case, folder: Path, port: str, code: int, stdout: str, stderr: str) -> Observation:
    plain = Plain(folder, port, stdout + stderr)
    seen: Observation = {"code": code}
    if block := re.search(r"^=+\n.* FAILED\n(?:.*\n)*?=+$", stderr, re.M):
        seen["block"] = plain(block[0]).split("\n")
    elif code:
        seen["error"] = plain(error(stderr))
    for path in sorted((folder / "observed").glob("*.arguments")):
        variables = path.with_suffix(".environment").read_text().split("\0")[:-1]
        seen[f"environment {path.stem}"] = dict(sorted(plain(line).split("=", 1) for line in variables))
        # Without the shell that the worker's first line names.
        seen[f"arguments {path.stem}"] = [plain(word) for word in path.read_text().split("\0")[1:-1]]
    files = [path for part in ("logs", "tmp") for path in sorted((folder / part).rglob("*"))]
    seen["files"] = sorted(plain(str(path.relative_to(folder))) + plain(contents(path)) for path in files)
    seen["stdout"] = sorted(plain(line) for line in stdout.split("\n") if line)
    seen["stderr"] = sorted(plain(line) for line in stderr.split("\n") if re.search("(^|[>: ])err: ", line))
    return seen


def contents(path: Path) -> str:
    """Lines that come from several ranks are sorted."""
    if path.is_dir():
        return "/"
    text = path.read_text()
    return f": {''.join(sorted(text.splitlines(keepends=True))) if path.name.startswith('filtered_') else text}"


class Plain:
    """Puts names in the place of folders, ports, process ids, times and random parts."""

    def __init__(self, folder: Path, port: str, output: str) -> None:
        pids = {f"\\b{pid}\\b" for pid in re.findall(r"\(pid: (\d+)\)", output)}
        host = re.escape(socket.getfqdn())
        self._rules = [
            (re.escape(str(HERE)), "<HERE>"),
            (re.escape(str(folder)), "<FOLDER>"),
            (r"(torchelastic_|/none_|/run7_|/seven_|/x_|[0-9a-f]{12}_)[a-z0-9_]{8}(?=/|$)", r"\1<RANDOM>"),
            (r"\b[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", "<UUID>"),
            (r"\d{4}-\d\d-\d\d_\d\d:\d\d:\d\d", lambda time: time[0] if time[0].startswith("2023-11-14") else "<TIME>"),
            (rf"MASTER_ADDR={host}$", "MASTER_ADDR=<HOST>"),
            (r"(host      : )\S+$", r"\1<HOST>"),
            *([(rf"\b{port}\b", "<PORT>")] if port else []),
            (r"(MASTER_PORT=)\d+$", r"\1<FREE PORT>"),
            (r"(JAX_COORDINATOR_ADDRESS=.*:)\d+$", r"\1<FREE PORT>"),
            (r"Process \d+ got", "Process <PID> got"),
            *((pid, "<PID>") for pid in pids),
        ]

    def __call__(self, text: str) -> str:
        for pattern, name in self._rules:
            text = re.sub(pattern, name, text, flags=re.M)
        return text


def error(stderr: str) -> str:
    """What a launcher says is wrong: behind argparse's `error:`, or the last line of a traceback without its module."""
    lines = [line for line in stderr.strip().split("\n") if "err: " not in line]
    if usage := [line for line in lines if re.match(r"\S+: error: ", line)]:
        return usage[-1].split(": error: ", 1)[1]
    named = [line for line in lines if re.match(r"[\w.]+(Error|Exception)(: |$)", line)]
    return re.sub(r"^[\w.]+\.(?=\w+(: |$))", "", named[-1]) if named else "\n".join(lines[-3:])


def fill(text: str, places: dict[str, str]) -> str:
    for place, value in places.items():
        text = text.replace(place, value)
    return text


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
