"""What zenith-run has and torchrun has not, and torch under it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]
SECONDS = 60


@pytest.fixture
def run(zenith_run: str, tmp_path: Path) -> Run:
    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1"} | variables
        return subprocess.run(
            [zenith_run, *arguments], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=SECONDS
        )

    return run


@pytest.fixture
def started(zenith_run: str, tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """A launcher whose rank has said `ready` in the folder of the test."""

    def started(do: str, *arguments: str) -> subprocess.Popen[str]:
        command = [
            zenith_run,
            *arguments,
            "--no-python",
            "bash",
            "-c",
            f"{do.replace('READY', f'touch {tmp_path}/ready')}",
        ]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
        wait_for((tmp_path / "ready").exists)
        return process

    return started


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize(("do", "code"), [("exit 7", 7), ("kill -KILL $$$$", 137), ("exit 0", 0)])
def test_the_exit_code_is_the_root_causes_if_asked_for(run: Run, do: str, code: int) -> None:
    # Two dollars are one, as everywhere in arguments.
    assert run("--propagate-exit-code", "--no-python", "bash", "-c", do).returncode == code
    assert run("--no-python", "bash", "-c", do).returncode == bool(code)


def test_rank_0_serves_the_store_itself(run: Run) -> None:
    show = 'echo "$TORCHELASTIC_USE_AGENT_STORE"; exec 3<>/dev/tcp/$MASTER_ADDR/$MASTER_PORT && echo served'
    assert run("--no-python", "bash", "-c", show).stdout.split() == ["True", "served"]
    assert run("--store=rank0", "--no-python", "bash", "-c", show).stdout.split() == ["False"]


def test_signals_are_forwarded_without_a_stop(started: Callable[..., subprocess.Popen[str]]) -> None:
    do = "trap 'echo told; exit 0' USR1; READY; while :; do sleep 0.01; done"
    process = started(do, "--forward-signals=USR1")
    process.send_signal(signal.SIGUSR1)
    stdout, _ = process.communicate(timeout=SECONDS)
    assert (process.returncode, stdout) == (0, "told\n")


def test_background_processes_are_kept_if_asked_for(run: Run) -> None:
    do = "setsid sleep 30 >/dev/null 2>&1 & echo $!"
    kept = run("--keep-background", "--no-python", "bash", "-c", do)
    child = int(kept.stdout)
    try:
        assert kept.returncode == 0
        os.kill(child, 0)
    finally:
        os.kill(child, signal.SIGKILL)
    ended = run("--shutdown-timeout=1", "--no-python", "bash", "-c", do)
    with pytest.raises(ProcessLookupError):
        os.kill(int(ended.stdout), 0)
    assert "still run" in ended.stderr


def test_a_dry_run_starts_nothing(run: Run, tmp_path: Path) -> None:
    done = run("--dry-run", "--nproc-per-node=2", "-r", "1", "--log-dir=logs", "train.py", "a b")
    assert done.returncode == 0
    assert done.stdout.count("train.py 'a b'") == 2
    for part in ("RANK=1\n", "stdout to logs/", "stderr to the console", "OMP_NUM_THREADS"):
        assert (part in done.stdout) is (part != "OMP_NUM_THREADS"), part
    assert list(tmp_path.iterdir()) == []


def test_what_is_pythons_goes_to_pythons_torchrun(run: Run, tmp_path: Path) -> None:
    python = tmp_path / "env/bin/python3"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/bash\nprintf "%s\\n" "$@"\nexit 5\n')
    python.chmod(0o755)
    done = run("--run-path", "/x.py", "--y", VIRTUAL_ENV=str(tmp_path / "env"))
    assert (done.returncode, done.stdout.split()) == (5, ["-m", "torch.distributed.run", "--run-path", "/x.py", "--y"])
    assert "--run-path: handing over to" in done.stderr


def test_a_rank_never_waits_for_the_console(zenith_run: str, tmp_path: Path) -> None:
    """Nobody reads stdout: the rank ends all the same, its file has every line, and the launcher says what it left out."""
    lines = 1 << 20
    command = [zenith_run, "-t", "1", f"--log-dir={tmp_path}", "--no-python", "bash", "-c", f"yes | head -n {lines}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.wait(SECONDS) == 0
        assert process.stderr is not None
        assert re.search(r"\d+ lines were not shown", process.stderr.read())
    finally:
        process.kill()
        process.communicate()
    (log,) = tmp_path.glob("*/attempt_0/0/stdout.log")
    assert log.read_text() == "y\n" * lines


def test_a_console_that_is_full_does_not_keep_the_launcher(started: Callable[..., subprocess.Popen[str]]) -> None:
    """A rank has filled the launcher's own stderr, which nobody reads; a signal ends the run all the same."""
    process = started("trap 'exit 0' TERM; yes >&2 & sleep 0.1; READY; wait")
    process.send_signal(signal.SIGTERM)
    try:
        assert process.wait(SECONDS / 2) == 1
    finally:
        process.kill()
        process.communicate()


# Rank 0 comes two seconds late in the second attempt: with the first one's keys still there, rank 1 would meet the dead (TW-1).
LATE = r"""
import os, sys, time
import torch, torch.distributed as dist
attempt = int(os.environ["TORCHELASTIC_RESTART_COUNT"])
if attempt == 1 and os.environ["RANK"] == "0":
    time.sleep(2)
dist.init_process_group("gloo")
assert dist.is_torchelastic_launched()
value = torch.ones(1) * (dist.get_rank() + 1)
dist.all_reduce(value)
dist.barrier()
if attempt == 0:
    os._exit(3 if dist.get_rank() == 1 else 0)
# A group that is still there when the interpreter ends may abort: one of its threads has not been joined.
dist.destroy_process_group()
os.write(1, b"sum %d\n" % int(value))  # In one piece, as two ranks share the stream.
"""


@pytest.mark.parametrize(
    "flags", [(), ("--master-port=0",), ("--store=rank0",)], ids=["launcher", "given port", "rank 0"]
)
def test_a_gloo_group_restarts_on_a_fresh_store(run: Run, tmp_path: Path, flags: tuple[str, ...]) -> None:
    script = tmp_path / "late.py"
    script.write_text(LATE)
    done = run("--nproc-per-node=2", "--max-restarts=1", *flags, str(script), PYTHON_EXEC=sys.executable)
    assert (done.returncode, done.stdout) == (0, "sum 3\nsum 3\n"), done.stderr
    assert "restart 1 of 1" in done.stderr
