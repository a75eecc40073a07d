"""`zenith.torchrun` does and raises what `torch.distributed.run` does and raises."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import SECONDS, survivors, wait_for

RECORDED = (
    'echo "{\\"message\\":{\\"message\\":\\"ValueError: bad\\",\\"extraInfo\\":{\\"py_callstack\\":\\"Traceback:\\\\n  line\\\\n'
    'ValueError: bad\\\\n\\",\\"timestamp\\":\\"1700000000\\"}}}" >"$$TORCHELASTIC_ERROR_FILE"; exit 1'
)
BASH = ["--no-python", "bash", "-c"]
LOGS = "--log-dir=logs"
# Function, command line.
CASES: dict[str, tuple[str, list[str]]] = {
    "success": ("main", [LOGS, *BASH, "exit 0"]),
    "success of parsed arguments": ("run", ["--nproc-per-node=2", LOGS, "-r", "3", *BASH, "echo $RANK"]),
    "code": ("main", [LOGS, *BASH, "exit 7"]),
    "code of parsed arguments": ("run", [LOGS, *BASH, "exit 7"]),
    "signal": ("main", [LOGS, *BASH, "kill -SEGV $$$$"]),
    "second of two": (
        "main",
        ["--nproc-per-node=2", LOGS, *BASH, "if [[ $RANK == 1 ]]; then sleep 0.4; exit 3; fi; exec sleep 30"],
    ),
    "recorded": ("main", [LOGS, *BASH, RECORDED]),
    "recorded, of parsed arguments": ("run", [LOGS, *BASH, RECORDED]),
    "recorded as text": (
        "main",
        [
            LOGS,
            *BASH,
            'echo "{\\"message\\": \\"no memory\\", \\"timestamp\\": 17}" >"$$TORCHELASTIC_ERROR_FILE"; exit 1',
        ],
    ),
    "restarts used up": ("main", ["--max-restarts=1", LOGS, *BASH, "exit $((5 + TORCHELASTIC_RESTART_COUNT))"]),
    "nodes in the wrong order": ("main", ["--nnodes=2:1", "x"]),
    "nodes of three": ("main", ["--nnodes=1:2:3", "x"]),
    "negative restarts": ("run", ["--max-restarts=-1", "x"]),
    "redirects": ("main", ["-r", "9", "x"]),
    "module without python": ("run", ["-m", "--no-python", "x"]),
    "log folder is a file": ("main", ["--log-dir=/etc/hostname", "x"]),
    "program is missing": ("main", [LOGS, "--no-python", "./nothing"]),
    "unknown flag": ("main", ["--bogus", "x"]),
    "no script": ("main", ["--standalone"]),
    "help": ("main", ["--help"]),
    "an entry point of Python's": ("main", ["--logs-specs=nobody", "x"]),
    "a back end of Python's": ("run", ["--rdzv-backend=nobody", "--rdzv-endpoint=localhost:1", "x"]),
}
# What is meant to be said otherwise than torch does.
OURS = {
    "program is missing": "rank 0 (local rank 0): cannot start ./nothing: No such file or directory (os error 2)",
}


def observed(module: str, folder: Path) -> list[dict[str, Any]]:
    folder.mkdir()
    (folder / "cases.json").write_text(json.dumps(list(CASES.values())))
    command = [sys.executable, str(Path(__file__).with_name("observe.py")), module, "cases.json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=2 * SECONDS)
    assert done.returncode == 0, done.stderr
    seen = json.loads((folder / f"{module}.json").read_text())
    return [plain(one, str(folder), one.pop("pids", [])) for one in seen]


def plain(value: Any, folder: str, pids: list[int]) -> Any:
    """With names for what differs from run to run."""
    if isinstance(value, dict):
        made = {key: plain(one, folder, pids) for key, one in value.items()}
        # The traceback of this very process, and when it was written.
        if str(value.get("py_callstack")).startswith("Traceback (most"):
            made |= {"py_callstack": "<TRACE>", "timestamp": "<NOW>"}
        return made
    if isinstance(value, list):
        return [plain(one, folder, pids) for one in value]
    if not isinstance(value, str):
        return value
    rules = [
        (r"\d{4}-\d\d-\d\d_\d\d:\d\d:\d\d", "<TIME>"),
        (rf"({re.escape(folder)}/)?logs/[0-9a-f-]{{36}}_[a-z0-9_]{{8}}/", "logs/<RUN>/"),
        (r"(host      : ).+", r"\1<HOST>"),
        # As long as the longest line, and so as the digits of a process id.
        (r"^[=-]+$", "<BORDER>"),
        *((rf"\b{pid}\b", "<PID>") for pid in pids),
    ]
    for pattern, name in rules:
        value = re.sub(pattern, name, value, flags=re.M)
    return value


@pytest.fixture(scope="module")
def both(zenith_run: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """What was seen of every case, ours and torch's."""
    with pytest.MonkeyPatch.context() as patched:
        folder = tmp_path_factory.mktemp("observed")
        patched.setenv("ZENITH_RUN", zenith_run)
        patched.setenv("OMP_NUM_THREADS", "1")
        patched.setenv("PYTHONPATH", str(Path(__file__).parents[3] / "python"))
        ours, theirs = (
            observed("zenith.torchrun", folder / "ours"),
            observed("torch.distributed.run", folder / "torchs"),
        )
    return {name: pair for name, *pair in zip(CASES, ours, theirs, strict=True)}  # type: ignore[misc]


@pytest.mark.parametrize("name", CASES)
def test_what_is_raised_is_torchs(name: str, both: dict[str, tuple[dict[str, Any], dict[str, Any]]]) -> None:
    ours, theirs = both[name]
    if name in OURS:
        assert ours.pop("text") == OURS[name]
        assert theirs.pop("text") != OURS[name], "no difference any more"
        # The same text stands in the error file.
        assert ours.pop("own")["message"]["message"].endswith(OURS[name])
        assert "own" in theirs
        theirs.pop("own")
    assert ours == theirs


def test_a_run_that_succeeds_needs_no_torch(tmp_path: Path) -> None:
    code = 'import sys, zenith.torchrun as t; t.main(["--no-python", "true"]); sys.exit("torch" in sys.modules)'
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, timeout=SECONDS).returncode == 0


def test_ranks_have_the_python_of_the_caller(tmp_path: Path) -> None:
    """And not the one that lies beside the launcher or comes first in PATH."""
    script = tmp_path / "says.py"
    script.write_text("import sys; print(sys.executable)")
    for module in ("zenith.torchrun", "zenith.torchrun.launch"):
        command = [sys.executable, "-m", module, "--use-env", str(script)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=SECONDS)
        assert (done.returncode, done.stdout.strip()) == (0, sys.executable), done.stderr


RUN = """
import os, signal, sys, zenith.torchrun
before = [signal.getsignal(number) for number in range(1, 32) if number not in (9, 19)]
try:
    zenith.torchrun.main(["--shutdown-timeout=20", "--no-python", "bash", "-c", sys.argv[1], "--forward", *sys.argv[2:]])
except Exception as error:
    print(type(error).__name__, getattr(error, "sigval", error), flush=True)
print("handlers", before == [signal.getsignal(number) for number in range(1, 32) if number not in (9, 19)], flush=True)
"""
WAITS = "trap 'sleep 0.3; echo told; exit 0' TERM INT HUP; touch ready; while :; do sleep 0.01; done"
Started = Callable[..., "subprocess.Popen[bytes]"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_stops_the_ranks_and_is_raised(number: signal.Signals, started: Started, tmp_path: Path) -> None:
    process = started(RUN, WAITS)
    wait_for((tmp_path / "ready").exists)
    process.send_signal(number)
    assert process.wait(SECONDS) == 0, (tmp_path / "stderr").read_text()
    assert (tmp_path / "stdout").read_text() == f"told\nSignalException {number}\nhandlers True\n"


TERMINAL = """
import fcntl, os, subprocess, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-c", *sys.argv[1:]])
"""


def test_ctrl_c_of_a_terminal_comes_once(started: Started, tmp_path: Path) -> None:
    """The rank takes 0.3 s to end; a second SIGINT would kill it."""
    ours, theirs = os.openpty()
    process = started(TERMINAL, RUN, WAITS, stdin=theirs, start_new_session=True)
    os.close(theirs)
    wait_for((tmp_path / "ready").exists)
    os.write(ours, b"\x03")
    assert process.wait(SECONDS) == 0, (tmp_path / "stderr").read_text()
    os.close(ours)
    assert (tmp_path / "stdout").read_text() == "told\nSignalException 2\nhandlers True\n"


def test_nothing_survives_a_program_that_is_killed(started: Started, tmp_path: Path) -> None:
    process = started(RUN, "touch ready; (setsid sleep 100 &); sleep 100")
    wait_for((tmp_path / "ready").exists)
    assert len(survivors(tmp_path)) >= 4
    process.kill()
    process.wait()
    wait_for(lambda: not survivors(tmp_path), 10)


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0]


def test_a_suspended_program_suspends_its_ranks(started: Started, tmp_path: Path) -> None:
    process = started(RUN, "echo $$$$ >pid; touch ready; while [ ! -e go ]; do sleep 0.01; done")
    wait_for((tmp_path / "ready").exists)
    rank = int((tmp_path / "pid").read_text())
    process.send_signal(signal.SIGTSTP)
    wait_for(lambda: state(rank) == state(process.pid) == "T")
    (tmp_path / "go").touch()
    process.send_signal(signal.SIGCONT)
    assert process.wait(SECONDS) == 0
    assert (tmp_path / "stdout").read_text() == "handlers True\n"


def test_a_hangup_that_is_ignored_stays_ignored(started: Started, tmp_path: Path) -> None:
    code = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)" + RUN
    process = started(code, "touch ready; while [ ! -e go ]; do sleep 0.01; done")
    wait_for((tmp_path / "ready").exists)
    process.send_signal(signal.SIGHUP)
    (tmp_path / "go").touch()
    assert process.wait(SECONDS) == 0, (tmp_path / "stderr").read_text()
    assert (tmp_path / "stdout").read_text() == "handlers True\n"


def test_it_runs_in_any_thread(started: Started, tmp_path: Path) -> None:
    code = """
import threading, zenith.torchrun
thread = threading.Thread(target=zenith.torchrun.main, args=(["--no-python", "echo", "ran"],))
thread.start()
thread.join()
"""
    assert started(code).wait(SECONDS) == 0
    assert (tmp_path / "stdout").read_text() == "ran\n"


def test_a_launcher_that_is_killed_is_an_error(started: Started, tmp_path: Path) -> None:
    process = started(RUN, "echo $$PPID; touch ready; sleep 100")
    wait_for((tmp_path / "ready").exists)
    # The rank's parent is the guardian, whose parent is the launcher.
    guardian = int((tmp_path / "stdout").read_text())
    launcher = int(Path(f"/proc/{guardian}/stat").read_text().rsplit(") ", 1)[1].split()[1])
    os.kill(launcher, signal.SIGKILL)
    assert process.wait(SECONDS) == 0, (tmp_path / "stderr").read_text()
    assert "was ended by SIGKILL" in (tmp_path / "stdout").read_text()


def test_a_launcher_that_is_nowhere_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import zenith.torchrun.child as child

    monkeypatch.delenv("ZENITH_RUN")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(child, "NAME", "zenith-run-of-nobody")
    with pytest.raises(FileNotFoundError, match=r"is in none of .* by \$ZENITH_RUN"):
        child.where()


def test_what_has_no_native_path_is_torchs_own() -> None:
    import torch.distributed.run
    import zenith.torchrun
    from torch.distributed.launcher import api

    assert zenith.torchrun.elastic_launch is api.elastic_launch
    assert zenith.torchrun.LaunchConfig is api.LaunchConfig
    config, command, arguments = zenith.torchrun.config_from_args(
        zenith.torchrun.parse_args(["--nproc-per-node=2", "x", "y"])
    )
    assert (config.nproc_per_node, command, arguments) == (2, sys.executable, ["-u", "x", "y"])
    theirs = {action.dest for action in torch.distributed.run.get_args_parser()._actions}
    assert {action.dest for action in zenith.torchrun.get_args_parser()._actions} == theirs
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        zenith.torchrun.nothing  # noqa: B018


def test_a_run_that_others_end_is_an_error_of_the_rendezvous() -> None:
    """And one of no kind that is known is an error all the same."""
    from torch.distributed.elastic.rendezvous import RendezvousError
    from zenith.torchrun.child import Ended
    from zenith.torchrun.failures import raise_unless_succeeded

    for kind, expected in [
        ("RendezvousError", RendezvousError),
        ("exit", RuntimeError),
        ("PermissionError", PermissionError),
    ]:
        with pytest.raises(expected, match="why"):
            raise_unless_succeeded(Ended(1, 1, {"outcome": "error", "kind": kind, "message": "why"}))
    with pytest.raises(KeyboardInterrupt):
        raise_unless_succeeded(Ended(1, -signal.SIGINT, {}))
