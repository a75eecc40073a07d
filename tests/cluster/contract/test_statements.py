"""Statements of torchrun's contract that no other test holds, by real launchers and ranks."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

SECONDS = 120.0
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(zenith_run: str, tmp_path: Path) -> Run:
    def run(*arguments: str, stdin: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1"} | variables
        command = [zenith_run, *arguments]
        return subprocess.run(
            command, env=environment, cwd=tmp_path, input=stdin, capture_output=True, text=True, timeout=SECONDS
        )

    return run


def bash(*flags: str, do: str) -> list[str]:
    return [*flags, "--no-python", "bash", "-c", do]


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_ranks_read_the_launchers_stdin(run: Run) -> None:
    """T-17."""
    assert run(*bash(do="read line; echo got $line"), stdin="a line\n").stdout == "got a line\n"


def test_gpus_that_are_counted_must_be_there(run: Run) -> None:
    """T-6; a number is not compared with them."""
    refused = run("--nproc-per-node=gpu", "x", CUDA_VISIBLE_DEVICES="")
    assert (refused.returncode, refused.stderr) == (1, "ValueError: Cuda is not available.\n")
    assert run(*bash("--nproc-per-node=3", do="echo"), CUDA_VISIBLE_DEVICES="0").stdout == "\n" * 3


def test_ranks_are_not_bound_by_themselves(run: Run) -> None:
    """TN-1."""
    done = run(*bash("--nproc-per-node=2", do="grep Cpus_allowed_list /proc/self/status"))
    [own] = [
        line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("Cpus_allowed_list")
    ]
    assert done.stdout.splitlines() == [own] * 2


def test_without_files_nothing_is_filtered_or_prefixed(run: Run) -> None:
    """T-56."""
    done = run(*bash("--nproc-per-node=2", "--log-dir=/dev/null", "-t", "3", "--local-ranks-filter=1", do="echo $RANK"))
    assert sorted(done.stdout) == ["\n", "\n", "0", "1"]


RECORDS = """
import os, time
from torch.distributed.elastic.multiprocessing.errors import record

@record
def main():
    raise ValueError("bad input")

main()
"""


def test_what_record_writes_is_in_the_block(run: Run, tmp_path: Path) -> None:
    """T-48, T-49, TB-8, with torch's own decorator."""
    script = tmp_path / "records.py"
    script.write_text(RECORDS)
    own = tmp_path / "own.json"
    done = run("--log-dir=logs", str(script), PYTHON_EXEC=sys.executable, TORCHELASTIC_ERROR_FILE=str(own))
    [file] = tmp_path.glob("logs/*/attempt_0/0/error.json")
    recorded = json.loads(file.read_text())["message"]
    trace = recorded["extraInfo"]["py_callstack"]
    assert (recorded["message"], trace.splitlines()[-1]) == ("ValueError: bad input",) * 2
    indented = trace.replace("\n", "\n  ")
    assert f"  error_file: {file}\n  traceback : {indented}\n=" in done.stderr
    copied = json.loads(own.read_text())["message"]
    assert copied == recorded | {"errorCode": 1}


def test_children_of_the_rank_that_failed_are_gone(run: Run, tmp_path: Path) -> None:
    """TW-10: torchrun stops the groups of the other ranks alone."""
    do = f"[ $RANK = 1 ] || exec sleep 60; sleep 60 & echo $! >{tmp_path}/child; exit 3"
    assert run(*bash("--nproc-per-node=2", do=do)).returncode == 1
    assert not Path(f"/proc/{(tmp_path / 'child').read_text().strip()}").exists()


def test_the_root_cause_is_who_ended_first_within_a_second(run: Run) -> None:
    """TW-11: torchrun has whole seconds, of which the lower rank wins a tie."""
    for _ in range(3):
        do = "trap '' TERM; [ $RANK = 1 ] && exit 7; sleep 0.1; exit 9"
        done = run(*bash("--nproc-per-node=2", "--propagate-exit-code", do=do))
        assert done.returncode == 7, done.stderr
        assert re.search(r"Root Cause \(first observed failure\):\n(.*\n){3}  rank      : 1 ", done.stderr)


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0]


def test_ranks_that_fail_at_once_are_named(zenith_run: str, tmp_path: Path) -> None:
    """TW-11: which was first is not to be known, and that is said. Both have ended before the guardian can look."""
    do = f"echo $PPID >{tmp_path}/$RANK.new; echo $$$$ >>{tmp_path}/$RANK.new; mv {tmp_path}/$RANK.new {tmp_path}/$RANK.pids; "
    do += f"while [ ! -e {tmp_path}/go ]; do sleep 0.01; done; exit $((7 + RANK))"
    command = [zenith_run, f"--log-dir={tmp_path / 'logs'}", *bash("--nproc-per-node=2", do=do)]
    with (tmp_path / "stderr").open("wb") as stderr:
        process = subprocess.Popen(command, stderr=stderr, env=os.environ | {"OMP_NUM_THREADS": "1"})
    try:
        files = [tmp_path / f"{rank}.pids" for rank in range(2)]
        wait_for(lambda: all(file.exists() for file in files))
        (guardian, first), (_, second) = ([int(word) for word in file.read_text().split()] for file in files)
        os.kill(guardian, signal.SIGSTOP)
        wait_for(lambda: state(guardian) == "T")
        (tmp_path / "go").touch()
        wait_for(lambda: state(first) == state(second) == "Z")
        os.kill(guardian, signal.SIGCONT)
        assert process.wait(SECONDS) == 1
    finally:
        process.kill()
        process.wait()
    told = (tmp_path / "stderr").read_text()
    assert re.search(r"Rank [01] failed at the same time: it may be the cause instead of rank [01]\.\n", told)


def blocks(process: subprocess.Popen[bytes], number: signal.Signals) -> bool:
    mask = re.search(r"^SigBlk:\t(.*)$", Path(f"/proc/{process.pid}/status").read_text(), re.M)
    return bool(mask and int(mask[1], 16) >> (number - 1) & 1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT])
def test_a_signal_before_anything_was_done_stops_the_run(
    number: signal.Signals, zenith_run: str, tmp_path: Path
) -> None:
    """TW-13: torchrun has no handlers until its ranks run. The launcher is held at its first step, a file that nobody reads yet."""
    fifo = tmp_path / "outcome"
    os.mkfifo(fifo)
    command = [zenith_run, f"--outcome-file={fifo}", *bash(f"--log-dir={tmp_path}", do=f"touch {tmp_path}/started")]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: blocks(process, number))
        process.send_signal(number)
        read = os.open(fifo, os.O_RDWR)
        assert process.wait(SECONDS) == 1
        assert json.loads(os.read(read, 4096)) == {"outcome": "stopped", "signal": number}
        os.close(read)
        assert not (tmp_path / "started").exists()
    finally:
        process.kill()
        process.wait()


def test_a_signal_between_attempts_stops_the_run(zenith_run: str, tmp_path: Path) -> None:
    """TW-13, while a third attempt is waited for."""
    command = [zenith_run, "--max-restarts=3", *bash(f"--log-dir={tmp_path}", do="exit 1")]
    with (tmp_path / "stderr").open("wb") as stderr:
        process = subprocess.Popen(command, stderr=stderr)
    wait_for(lambda: "restart 2 of 3, in 1 s" in (tmp_path / "stderr").read_text())
    process.send_signal(signal.SIGTERM)
    assert process.wait(SECONDS) == 1
    assert "got signal: 15" in (tmp_path / "stderr").read_text()


def test_the_store_listens_where_its_address_says(run: Run) -> None:
    """TS-12: torch's listens on all interfaces."""
    do = "cat /proc/net/tcp /proc/net/tcp6; echo; printf '%04X\\n' $MASTER_PORT; echo $MASTER_ADDR"
    *table, port, address = run(*bash(do=do)).stdout.splitlines()
    listening = [line.split()[1] for line in table if len(line.split()) > 3 and line.split()[3] == "0A"]
    assert [place for place in listening if place.endswith(f":{port}")] == [f"0100007F:{port}"]
    assert address == "127.0.0.1"
