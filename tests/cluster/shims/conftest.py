"""Programs that call torch's launcher by its functions."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SECONDS = 120.0
MARK = "ZENITH_SHIM_TEST"


@pytest.fixture(autouse=True)
def _launcher(zenith_run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The launcher under test is taken, here and in the processes of a test; what one leaves can be found by a mark."""
    monkeypatch.setenv("ZENITH_RUN", zenith_run)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "python"))
    monkeypatch.setenv(MARK, str(tmp_path))


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts `code` in a Python of its own, in the folder of the test; its output goes to `stdout` and `stderr` there."""
    processes = []

    def started(code: str, *arguments: str, **options: object) -> subprocess.Popen[bytes]:
        with (tmp_path / "stdout").open("wb") as stdout, (tmp_path / "stderr").open("wb") as stderr:
            streams = {"stdin": subprocess.DEVNULL, "stdout": stdout, "stderr": stderr} | options
            process = subprocess.Popen([sys.executable, "-c", code, *arguments], cwd=tmp_path, **streams)
        processes.append(process)
        return process

    yield started
    for process in processes:
        process.kill()
        process.wait()


def survivors(folder: Path) -> list[int]:
    """What runs with the mark of a test, besides the test itself."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/environ"):
        pid = int(entry.parent.name)
        try:
            is_marked = f"{MARK}={folder}".encode() in entry.read_bytes().split(b"\0")
        except OSError:
            continue
        if is_marked and pid != os.getpid():
            found.append(pid)
    return found


def wait_for(condition: Callable[[], object], seconds: float = SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)
