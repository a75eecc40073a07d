"""What a loader is in a process: signals, forks, exits, changed files."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zenith
from zenith_torch import DataLoader


def test_a_forked_child_gets_a_clear_error_and_a_fresh_iterator(parquet_files: Path) -> None:
    loader = DataLoader(parquet_files, batch_size=100, num_workers=2)
    iterator = iter(loader)
    next(iterator)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            next(iterator)
            os.write(write, b"no error;")
        except zenith.ForkedEngineError:
            os.write(write, b"refused;")
        os.write(write, str(sum(len(b["id"]) for b in loader)).encode())
        del iterator
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert os.read(read, 100) == b"refused;10007"
    assert sum(1 for _ in iterator) == 100


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_the_map_style_path_works_in_torch_workers(parquet_files: Path, method: str) -> None:
    dataset = zenith.Parquet(parquet_files, columns=["id"])
    dataset[0]
    loader = DataLoader(dataset, batch_size=2000, num_workers=2, collate_fn=_sum, multiprocessing_context=method)
    assert sum(loader) == sum(range(10_007))


def _sum(samples: list[dict]) -> int:
    return sum(int(sample["id"]) for sample in samples)


def run(code: str, *args: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *args], capture_output=True, text=True, timeout=timeout
    )


def test_ctrl_c_while_iterating(parquet_files: Path) -> None:
    code = """
        import sys
        from zenith_torch import DataLoader
        loader = DataLoader(sys.argv[1], batch_size=10, num_workers=2, shuffle=True)
        print("ready", flush=True)
        while True:
            for batch in loader:
                pass
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(parquet_files)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.5)
    started = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert "KeyboardInterrupt" in errors
    assert process.returncode != 0
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("ending", ["pass", "sys.exit(7)", "os._exit(7)", "del loader", "raise SystemExit(7)"])
def test_exit_with_a_live_iterator(parquet_files: Path, ending: str) -> None:
    code = f"""
        import os, sys
        from zenith_torch import DataLoader
        loader = DataLoader(sys.argv[1], batch_size=10, num_workers=2, shuffle=True)
        iterator = iter(loader)
        next(iterator)
        {ending}
    """
    done = run(code, str(parquet_files))
    assert done.returncode == (7 if "7" in ending else 0), done.stderr
    assert done.stderr == ""


def test_a_file_that_changes_in_mid_epoch_is_an_error(tmp_path: Path, parquet_table: pa.Table) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(parquet_table, path, row_group_size=500)
    loader = DataLoader(path, batch_size=100, prefetch_bytes=1)
    iterator = iter(loader)
    next(iterator)
    with open(path, "ab") as file:
        file.write(b"more")
    with pytest.raises(zenith.DatasetChangedError, match=r"a\.parquet.*Open the dataset again"):
        for _ in iterator:
            pass


def test_threads_end_with_the_iterator(parquet_files: Path) -> None:
    def threads() -> int:
        return len(os.listdir("/proc/self/task"))

    before = threads()
    loader = DataLoader(parquet_files, batch_size=10, num_workers=4)
    for _ in range(20):
        iterator = iter(loader)
        next(iterator)
        del iterator
    assert threads() <= before


def test_many_threads_share_one_iterator(parquet_files: Path) -> None:
    iterator = iter(DataLoader(parquet_files, batch_size=13, num_workers=2, shuffle=True, seed=0))
    seen: list[int] = []

    def consume() -> None:
        for batch in iterator:
            seen.extend(batch["id"].tolist())

    consumers = [threading.Thread(target=consume) for _ in range(8)]
    for thread in consumers:
        thread.start()
    for thread in consumers:
        thread.join(30)
    assert sorted(seen) == list(range(10_007))


def test_importing_zenith_needs_no_torch() -> None:
    code = "import sys; sys.modules['torch'] = None; sys.modules['jax'] = None; import zenith; print(zenith.info()['version'])"
    done = run(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout
