"""What stopped ranks leave in shared memory goes; what anybody else has there stays."""

from __future__ import annotations

import json
import mmap
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from .shared import SHARED, attached, detach, remove_segment, segment, segments

ROOT = Path(__file__).parents[3]
SECONDS = 60.0
pytestmark = pytest.mark.usefixtures("time_limit")


@dataclass
class Run:
    process: subprocess.Popen[str]
    folder: Path

    def made(self, attempt: int = 0) -> dict[str, Any]:
        path = self.folder / f"made-{attempt}"
        until = time.monotonic() + SECONDS
        while not path.exists():
            assert time.monotonic() < until, f"nothing is told; the launcher: {self.process.poll()}"
            time.sleep(0.01)
        told: dict[str, Any] = json.loads(path.read_text())
        return told

    def fails(self) -> None:
        (self.folder / "go").touch()

    def ended(self) -> tuple[int, str]:
        _, errors = self.process.communicate(timeout=SECONDS)
        return self.process.returncode, errors


@pytest.fixture
def mark() -> Iterator[str]:
    mark = f"zenithtest{uuid4().hex[:8]}"
    before = segments()
    yield mark
    for path in SHARED.glob(f"*{mark}*"):
        path.unlink()
    for number in segments() - before:
        remove_segment(number)


Start = Callable[..., Run]


@pytest.fixture
def start(zenith_run: str, tmp_path: Path, mark: str) -> Iterator[Start]:
    """Starts the ranks of `rank.py`; `end` is what becomes of rank 0."""
    runs: list[Run] = []

    def start(end: str, *arguments: str, ranks: int = 2) -> Run:
        command = [zenith_run, f"--nproc-per-node={ranks}", "--shutdown-timeout=1", *arguments]
        command += ["-m", "tests.cluster.leftovers.rank", str(tmp_path), mark]
        environment = os.environ | {"END": end, "OMP_NUM_THREADS": "1", "PYTHON_EXEC": sys.executable}
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
        runs.append(Run(process, tmp_path))
        return runs[-1]

    yield start
    for run in runs:
        with run.process:
            run.process.kill()


def there(names: list[str]) -> list[str]:
    return [name for name in names if (SHARED / name).exists()]


def test_what_killed_ranks_leave_is_removed_and_nothing_else(start: Start, mark: str) -> None:
    (SHARED / f"psm_{mark}_older").touch()
    run = start("hang")
    made = run.made()
    # Strangers: a name that looks alike, another that says it is the rank's, a mapping of the rank's file, an attachment.
    look_alikes = [f"psm_{mark}_stranger", f"torch_{made['pid']}_{mark}_1", f"nccl-{mark}-stranger"]
    for name in look_alikes:
        (SHARED / name).write_bytes(bytes(100))
    [shared] = made["files"]["shared"]
    with (SHARED / shared).open("rb+") as file:
        mapping = mmap.mmap(file.fileno(), 0)
    strange = segment()
    address = attached(made["segments"][1])
    run.fails()
    code, errors = run.ended()
    assert code == 1
    assert there(made["files"]["ours"]) == []
    stays = [*made["files"]["other_names"], *made["files"]["older"], *look_alikes, shared]
    assert there(stays) == stays
    left = segments()
    assert made["segments"][0] not in left
    assert {made["segments"][1], strange} <= left
    assert (
        "shared memory that the stopped ranks had left: 4 files in /dev/shm, 1 segments of System V, 0.0 MiB" in errors
    )
    mapping.close()
    detach(address)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_what_belongs_to_another_user_stays(start: Start) -> None:
    run = start("hang")
    first, *others = run.made()["files"]["ours"]
    os.chown(SHARED / first, 65534, 65534)
    run.fails()
    assert run.ended()[0] == 1
    assert there([first, *others]) == [first]


def test_the_next_attempt_begins_without_them(start: Start, mark: str) -> None:
    run = start("hang", "--max-restarts=1")
    first = run.made()
    run.fails()
    second = run.made(1)
    assert set(second["there"]).isdisjoint(first["files"]["ours"])
    assert first["segments"][0] not in segments()
    run.ended()
    assert there(second["files"]["ours"]) == []


def test_what_ranks_leave_that_succeed_stays(start: Start) -> None:
    run = start("succeed", ranks=1)
    code, errors = run.ended()
    made = run.made()
    assert code == 0
    assert "shared memory" not in errors
    assert there(made["files"]["ours"]) == made["files"]["ours"]
    assert set(made["segments"]) <= segments()


def test_the_segments_of_a_rank_that_crashes_are_known(start: Start) -> None:
    run = start("crash", ranks=1)
    code, _ = run.ended()
    made = run.made()
    assert code == 1
    assert segments().isdisjoint(made["segments"])
    # Who has mapped a file is not known any more when it has ended by itself.
    assert there(made["files"]["ours"]) == made["files"]["ours"]


def test_the_guardian_removes_them_if_the_launcher_is_killed(start: Start) -> None:
    run = start("hang")
    made = run.made()
    run.process.send_signal(signal.SIGKILL)
    until = time.monotonic() + SECONDS
    while there(made["files"]["ours"]) or not segments().isdisjoint(made["segments"]):
        assert time.monotonic() < until, there(made["files"]["ours"])
        time.sleep(0.01)


def test_torchs_own_files_are_removed(start: Start) -> None:
    """With the strategy `file_system` tensors have names, and the process that takes them away dies with the ranks."""
    run = start("torch")
    names = run.made()["files"]["ours"]
    assert len(names) == 2, "torch has given no names"
    assert there(names) == names
    run.fails()
    _, errors = run.ended()
    assert there(names) == []
    assert "2 files in /dev/shm" in errors
