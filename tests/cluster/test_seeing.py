"""What one sees of a run: events, the console's prefix, heartbeats, stacks of Python, ranks that are stuck in the kernel."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SECONDS = 90
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(zenith_run: str, tmp_path: Path) -> Run:
    """Runs a Python script under the launcher, with events and logs in the folder of the test."""

    def run(do: str, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
        script = tmp_path / "script.py"
        script.write_text(textwrap.dedent(do))
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHON_EXEC": sys.executable} | variables
        environment["PYTHONPATH"] = str(ROOT / "python")
        command = [zenith_run, "--events-file=events", "--log-dir=logs", *options, str(script)]
        return subprocess.run(
            command,
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            stdin=subprocess.DEVNULL,
        )

    return run


def events(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "events").read_text().splitlines()]


def log(folder: Path, name: str) -> str:
    (found,) = folder.glob(f"logs/*/attempt_0/0/{name}")
    return found.read_text()


def documented() -> dict[str, set[str]]:
    """The fields of each event, of the table in the documentation."""
    text = (ROOT / "docs/zenith-run.md").read_text()
    rows = re.findall(
        r"^\| `([a-z_]+)` \| [^|]+ \| ([^|]*) ?\|$", text.split("| event | when |")[1].split("\n\n")[0], re.M
    )
    return {event: set(re.findall(r"`([a-z_]+)`", fields.split(":")[0])) for event, fields in rows}


def test_events_are_as_documented(run: Run, tmp_path: Path) -> None:
    before = time.time(), time.monotonic()
    done = run("import os; raise SystemExit(int(os.environ['TORCHELASTIC_RESTART_COUNT'] != '2'))", "--max-restarts=2")
    assert done.returncode == 0, done.stderr
    after = time.time(), time.monotonic()
    seen = events(tmp_path)
    common = {"version", "time_s", "monotonic_s", "run_id", "node", "attempt", "event"}
    table = documented()
    assert len(table) == 19, "the table was read"
    for line in seen:
        assert set(line) == common | table[line["event"]], line
        assert line["version"] == 1
        assert before[0] <= line["time_s"] <= after[0]
        assert before[1] <= line["monotonic_s"] <= after[1]
    assert {"start", "spawn", "rank_started", "rank_ended", "failure_seen", "restart", "backoff", "end"} <= {
        line["event"] for line in seen
    }
    source = (ROOT / "rust/zenith-cluster/src/observe/event.rs").read_text()
    variants = re.findall(r"^    ([A-Z]\w+) \{", source.split("enum Event")[1].split("\n}")[0], re.M)
    assert {re.sub(r"(?<!^)([A-Z])", r"_\1", name).lower() for name in variants} == set(table)


def test_lines_may_begin_with_host_and_rank(run: Run) -> None:
    host = socket.gethostname().split(".")[0]
    done = run(
        "import os; print('rank', os.environ['RANK'])", "--nproc-per-node=2", "-t", "1", "--log-prefix=host-rank"
    )
    assert sorted(done.stdout.splitlines()) == [f"[{host}:{rank}]:rank {rank}" for rank in range(2)]
    template = {"TORCHELASTIC_LOG_LINE_PREFIX_TEMPLATE": "<${rank}>"}
    assert run("print('x')", "-t", "1", **template).stdout == "<0>x\n"
    assert run("print('x')", "-t", "1").stdout == "[default0]:x\n"


def test_a_heartbeat_costs_little_and_nothing_where_nobody_listens(tmp_path: Path) -> None:
    """Less than 2 µs a call, in the best of some turns: others may use the machine."""
    script = """
        import sys, time
        from zenith import heartbeat
        assert not {"torch", "jax"} & set(sys.modules)
        def turn(calls=20_000):
            start = time.perf_counter()
            for _ in range(calls):
                heartbeat()
            return (time.perf_counter() - start) / calls
        print(min(turn() for _ in range(10)))
    """
    for file in ("", str(tmp_path / "heartbeat"), str(tmp_path / "no/such/folder")):
        environment = os.environ | {"PYTHONPATH": str(ROOT / "python"), "ZENITH_HEARTBEAT_FILE": file}
        command = [sys.executable, "-c", textwrap.dedent(script)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=SECONDS, check=True)
        assert float(done.stdout) < 2e-6
        assert ("cannot open" in done.stderr) is ("such" in file), done.stderr
    count, _, signal = (tmp_path / "heartbeat").read_text().split()
    assert int(count) > 1
    assert signal == "16"


def test_heartbeats_keep_a_rank_alive(run: Run, tmp_path: Path) -> None:
    do = """
        import time, zenith
        for _ in range(40):
            zenith.heartbeat()
            time.sleep(0.1)
    """
    done = run(do, "--hang-timeout=2.5")
    assert done.returncode == 0, done.stderr
    assert [line["event"] for line in events(tmp_path)].count("hang") == 0


LOCKED = {
    # The signal that asks for stacks ends a sleep, and a stop is ended so that it arrives.
    "the GIL is held": "while True: ctypes.PyDLL(None).sleep(1000)",
    "it is busy": "while True: pass",
    "it waits": "threading.Event().wait()",
    "it is stopped": "while True: os.kill(os.getpid(), signal.SIGSTOP)",
}


@pytest.mark.parametrize("how", LOCKED)
def test_a_rank_that_hangs_tells_where(run: Run, tmp_path: Path, how: str) -> None:
    do = f"""
        import ctypes, os, signal, threading, zenith
        def stuck_here():
            {LOCKED[how]}
        zenith.heartbeat()
        stuck_here()
    """
    done = run(do, "--hang-timeout=1", "--shutdown-timeout=1", PATH="/usr/bin:/bin")
    assert done.returncode == 1
    assert "traceback : hang: rank 0 has been without progress for 1" in done.stderr
    stacks = log(tmp_path, "stacks.txt")
    assert "in stuck_here\n" in stacks, stacks
    assert "-- kernel\n" in stacks
    (hang,) = [line for line in events(tmp_path) if line["event"] == "hang"]
    assert set(hang) >= documented()["hang"]
    assert json.loads(log(tmp_path, "error.json"))["message"]["message"].startswith("hang: ")


def test_a_py_spy_that_hangs_dies_with_the_launcher(zenith_run: str, tmp_path: Path) -> None:
    spy = tmp_path / "py-spy"
    spy.write_text("#!/bin/sh\necho $$ > spy.pid\nexec sleep 1000\n")
    spy.chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    command = [
        zenith_run,
        "--log-dir=logs",
        "--hang-timeout=1",
        "-r",
        "1",
        "--no-python",
        "bash",
        "-c",
        "echo; exec sleep 1000",
    ]
    launcher = subprocess.Popen(command, env=environment, cwd=tmp_path, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: (tmp_path / "spy.pid").exists() and (tmp_path / "spy.pid").read_text() != "")
        process = int((tmp_path / "spy.pid").read_text())
        os.kill(process, 0)
    finally:
        launcher.kill()
        launcher.wait(SECONDS)
    wait_for(lambda: has_ended(process))


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def has_ended(process: int) -> bool:
    """Whether it is gone, or waits for whoever took it over to look."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(") ", 1)[1].startswith("Z")
    except OSError:
        return True


def test_a_rank_without_a_handler_is_not_ended_by_the_signal(run: Run, tmp_path: Path) -> None:
    """It has given its signal to somebody else since."""
    do = """
        import os, signal, time, zenith
        zenith.heartbeat()
        signal.signal(16, signal.SIG_DFL)
        time.sleep(1000)
    """
    done = run(do, "--hang-timeout=1", PATH="/usr/bin:/bin")
    assert done.returncode == 1
    assert "has no handler for signal 16 any more" in log(tmp_path, "stacks.txt")
    assert "(SIGTERM)" in done.stderr, "by which it ended"


# A child of vfork waits for somebody to write to a FIFO before it becomes a program; so long its parent is in state D.
STUCK = """
    import os, signal
    fifo = f"fifo-{os.environ['RANK']}"
    os.mkfifo(fifo)
    os.posix_spawn("/bin/true", ["true"], {}, file_actions=[(os.POSIX_SPAWN_OPEN, 0, fifo, os.O_RDONLY, 0)])
"""


def test_a_rank_that_is_stuck_in_the_kernel_ends_the_run(run: Run, tmp_path: Path) -> None:
    variable = {"TORCHELASTIC_UNINTERRUPTIBLE_STATE_TIMEOUT": "1"}
    done = run(STUCK, "--max-restarts=3", "--shutdown-timeout=0", **variable)
    assert done.returncode == 1, "TW-5"
    names = [line["event"] for line in events(tmp_path)]
    assert names.count("uninterruptible") == 1
    assert names.count("spawn") == 1, "no further attempt"
    (seen,) = [line for line in events(tmp_path) if line["event"] == "uninterruptible"]
    assert set(seen) >= documented()["uninterruptible"]
    assert "rank 0 has been in an uninterruptible state (D) for 1 s" in done.stderr
    assert "traceback : rank 0 has been in an uninterruptible state" in done.stderr
    assert "D (disk sleep)" in log(tmp_path, "stacks.txt")


@pytest.mark.parametrize("seconds", ["", "0", "-1", "soon"])
def test_nobody_looks_for_stuck_ranks_unasked(run: Run, tmp_path: Path, seconds: str) -> None:
    # Somebody writes in the end, and all goes on.
    writes = 'os.mkfifo(fifo)\n    os.system(f"(sleep 1.5; echo > {fifo}) &")'
    done = run(STUCK.replace("os.mkfifo(fifo)", writes), TORCHELASTIC_UNINTERRUPTIBLE_STATE_TIMEOUT=seconds)
    assert done.returncode == 0, done.stderr
