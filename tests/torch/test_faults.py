"""Faults of the process and the disk that the loader must survive; real processes, signals and system calls."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zenith
from zenith_torch import DataLoader

SOAK = int(os.environ.get("ZENITH_SOAK", "20"))
"""How many random moments are tried; `make soak` tries more."""


def run(
    code: str, *args: object, before: tuple[str, ...] = (), timeout: float = 120
) -> subprocess.CompletedProcess[str]:
    command = [*before, sys.executable, "-c", textwrap.dedent(code), *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout)


# -- reads -------------------------------------------------------------------------------------------------------------


def can_trace() -> bool:
    if shutil.which("strace") is None:
        return False
    return subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True).returncode == 0


def tracing(files: Path, fault: str) -> tuple[str, ...]:
    """Makes reads of these files, and of no others, fail."""
    paths = [part for file in sorted(files.iterdir()) for part in ("-P", str(file))]
    return ("strace", "-f", "-qq", "-o", os.devnull, *paths, "-e", "trace=pread64", "-e", f"inject=pread64:{fault}")


READ_ALL = """
    import sys, zenith
    from zenith_torch import DataLoader
    for shuffle in (False, True):
        loader = DataLoader(sys.argv[1], batch_size=500, num_workers=2, shuffle=shuffle, seed=1, on_error=sys.argv[2])
        try:
            print(sum(int(batch["id"].sum()) for batch in loader), sum(int((batch["id"] >= 0).sum()) for batch in loader))
        except zenith.ReadError as error:
            print(type(error).__name__, error.file, error.offset)
"""


@pytest.mark.skipif(not can_trace(), reason="strace cannot trace here; zenith-io tests the same without it")
@pytest.mark.parametrize("fault", ["error=EINTR:when=1+2", "error=EIO:when=2+7"])
def test_faults_of_single_reads_are_invisible(parquet_files: Path, fault: str) -> None:
    done = run(READ_ALL, parquet_files, "raise", before=tracing(parquet_files, fault))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"{sum(range(10_007))} 10007"] * 2


@pytest.mark.skipif(not can_trace(), reason="strace cannot trace here; zenith-io tests the same without it")
def test_a_disk_that_fails_is_an_error_with_its_place(parquet_files: Path) -> None:
    code = """
        import os, sys, zenith
        from zenith_torch import DataLoader
        loader = DataLoader(sys.argv[1], batch_size=500)
        try:
            for _ in range(2):
                for batch in loader:
                    pass
        except zenith.ReadError as error:
            print(type(error).__name__, os.path.basename(error.file), error.offset is not None)
    """
    done = run(code, parquet_files, before=tracing(parquet_files, "error=EIO:when=12+"))
    assert done.returncode == 0, done.stderr
    kind, file, known = done.stdout.splitlines()[-1].split()
    assert (kind, known) == ("ReadError", "True")
    assert file.startswith("part-")


HANGING = """
    import os, signal, sys, threading, time
    import zenith
    from zenith_torch import DataLoader
    # A view has handles of its own, so that the file has to be opened again.
    loader = DataLoader(zenith.Parquet(sys.argv[1]).take(1000), batch_size=10, num_workers=int(sys.argv[2]))
    os.remove(sys.argv[1])
    os.mkfifo(sys.argv[1])
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    sent = time.monotonic() + 0.5
    try:
        for batch in loader:
            pass
        sys.exit("nothing hung")
    except KeyboardInterrupt:
        seen = time.monotonic()
    del loader
    print(seen - sent, time.monotonic() - sent)
"""


@pytest.mark.parametrize("workers", [0, 2])
def test_ctrl_c_ends_a_read_that_hangs(tmp_path: Path, workers: int) -> None:
    """Opening a FIFO that nobody writes to waits for ever, as a mount does whose server is gone."""
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"id": range(1000)}), path)
    done = run(HANGING, path, workers, timeout=60)
    assert done.returncode == 0, done.stderr
    seen, ended = map(float, done.stdout.split())
    assert (seen < 0.2, ended < 1) == (True, True), done.stdout


HANGING_ITEM = """
    import os, signal, sys, threading, time
    import pyarrow as pa, pyarrow.parquet as pq
    import zenith
    path = sys.argv[1]
    pq.write_table(pa.table({"id": range(1000)}), path)
    # A view has handles of its own, so that the file has to be opened again.
    view = zenith.Parquet(path).take(1000)
    os.remove(path)
    os.mkfifo(path)
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    sent = time.monotonic() + 0.5
    try:
        view[3]
        sys.exit("nothing hung")
    except KeyboardInterrupt:
        print(time.monotonic() - sent)
"""


def test_ctrl_c_ends_random_access_that_hangs(tmp_path: Path) -> None:
    done = run(HANGING_ITEM, tmp_path / "a.parquet", timeout=60)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 0.2, done.stdout


GIVEN_UP = """
    import os, sys, time
    import pyarrow as pa, pyarrow.parquet as pq
    import zenith
    from zenith_torch import DataLoader
    folder, workers = sys.argv[1], int(sys.argv[2])
    for name in "abc":
        pq.write_table(pa.table({"id": range(100)}), f"{folder}/{name}.parquet", row_group_size=50)
    def loader(**options):
        return DataLoader(dataset, batch_size=10, num_workers=workers, read_timeout_ms=100, **options)
    # A view has handles of its own, so that the files have to be opened again.
    dataset = zenith.Parquet(folder).take(300)
    os.remove(f"{folder}/b.parquet")
    os.mkfifo(f"{folder}/b.parquet")
    started = time.monotonic()
    try:
        for count, batch in enumerate(loader()):
            pass
        sys.exit("nothing hung")
    except zenith.ReadTimeoutError as error:
        assert isinstance(error, TimeoutError) and isinstance(error, zenith.ReadError)
        assert error.file == f"{folder}/b.parquet" and error.offset == 4, (error.file, error.offset)
        assert "read_timeout_ms=100" in str(error) and count == 9, (str(error), count)
    skipping = loader(on_error="quarantine", quarantine_path=f"{folder}/_bad")
    assert sum(len(batch["id"]) for batch in skipping) == 200
    stats = skipping.stats()
    assert (stats["skipped_samples"], stats["skipped_blocks"], stats["timed_out_reads"]) == (100, 2, 2), stats
    assert not os.path.exists(f"{folder}/_bad") or os.path.getsize(f"{folder}/_bad") == 0
    assert time.monotonic() - started < 5
    print("survived")
"""


@pytest.mark.parametrize("workers", [0, 2])
def test_a_read_that_hangs_is_given_up(tmp_path: Path, workers: int) -> None:
    """What hangs may work again later: it is skipped and counted, and never listed as bad."""
    done = run(GIVEN_UP, tmp_path, workers, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "survived"


# -- limits ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spare", [40, 8])
def test_few_open_files_are_enough(tmp_path: Path, spare: int) -> None:
    for number in range(200):
        pq.write_table(pa.table({"id": np.arange(10) + 10 * number}), tmp_path / f"{number:03}.parquet")
    code = """
        import os, resource, sys
        from zenith_torch import DataLoader
        used = len(os.listdir("/proc/self/fd"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        held = [os.open("/dev/null", os.O_RDONLY) for _ in range(64 - used - int(sys.argv[2]))]
        for shuffle in (False, True):
            loader = DataLoader(sys.argv[1], batch_size=64, num_workers=2, shuffle=shuffle, seed=1)
            print(sorted(i for batch in loader for i in batch["id"].tolist()) == list(range(2000)))
    """
    done = run(code, tmp_path, spare)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["True"] * 2


def test_a_slab_that_cannot_be_had_is_a_budget_error(tmp_path: Path) -> None:
    with open(tmp_path / "zeros.bin", "wb") as file:
        file.truncate(1100 << 17)
    code = """
        import resource, sys, zenith
        from zenith_torch import DataLoader
        loader = DataLoader(zenith.Tokens(sys.argv[1], seq_len=1 << 16), batch_size=1024)
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + (450 << 20),) * 2)
        for turn in range(2):
            try:
                next(iter(loader))
            except zenith.BudgetError as error:
                print(isinstance(error, MemoryError), "batch_size" in str(error))
    """
    done = run(code, tmp_path / "zeros.bin")
    assert done.stdout.split() == ["True", "True"] * 2, done.stdout + done.stderr[-2000:]


STARVED = """
    import resource, sys, zenith
    from zenith_torch import DataLoader
    workers, spare = int(sys.argv[2]), int(sys.argv[3]) << 20
    options = {"max_ratio": 1 << 20} if "csv" in sys.argv[1] else {}
    loader = DataLoader(zenith.open(sys.argv[1], **options), batch_size=8, num_workers=workers)
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + spare, resource.RLIM_INFINITY))
    for turn in range(2):
        try:
            next(iter(loader))
            sys.exit("there was memory")
        except zenith.BudgetError as error:
            print(isinstance(error, MemoryError), "bytes of decoded samples" in str(error))
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
    print(len(next(iter(loader))), "fields after all")
"""


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("kind", ["texts", "rows", "unpacked"])
def test_memory_that_decoding_cannot_have_is_a_budget_error(tmp_path: Path, kind: str, workers: int) -> None:
    """A small file whose samples are large: the process lives, and reads on once there is memory."""
    if kind == "texts":
        path = tmp_path / "a.parquet"
        pq.write_table(pa.table({"text": ["x" * 8192] * 65536}), path)
    elif kind == "rows":
        # A chunk has room for 64 rows, whatever their size.
        path = tmp_path / "a.arrow"
        wide = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(4 << 21, dtype=np.float32)), 2 << 20)
        with pa.ipc.new_file(path, pa.schema([("wide", wide.type)])) as writer:
            writer.write_batch(pa.record_batch({"wide": wide}))
    else:
        path = tmp_path / "a.csv.zst"
        line = "x" * 8191 + "\n"
        path.write_bytes(pa.compress(("text\n" + line * 65536).encode(), codec="zstd", asbytes=True))
    done = run(STARVED, path, workers, 300)
    assert done.stdout.splitlines() == ["True True"] * 2 + ["1 fields after all"], done.stdout + done.stderr[-2000:]


# -- signals, exits, forks ---------------------------------------------------------------------------------------------

INTERRUPTED = """
    import os, random, signal, sys, time
    import torch, zenith_torch
    from zenith_torch import DataLoader

    # Forked from here, so that torch is imported once; no threads run yet.
    def child():
        loader = DataLoader(sys.argv[1], batch_size=10, num_workers=random.choice([0, 1, 2]), shuffle=True, seed=1)
        try:
            os.write(ready, b"!")
            while True:
                for batch in loader:
                    pass
        except KeyboardInterrupt:
            del loader
            end = time.monotonic() + 0.5  # A thread that was joined is still listed for a moment.
            while len(os.listdir("/proc/self/task")) > 1 and time.monotonic() < end:
                time.sleep(0.001)
            os._exit(len(os.listdir("/proc/self/task")) - 1)

    random.seed(7)
    slowest = 0
    for moment in range(int(sys.argv[2])):
        begun, ready = os.pipe()
        pid = os.fork()
        if pid == 0:
            child()
        os.close(ready)
        os.read(begun, 1)
        os.close(begun)
        time.sleep(random.random() * 0.2)
        started = time.monotonic()
        os.kill(pid, signal.SIGINT)
        while (ended := os.waitpid(pid, os.WNOHANG))[0] == 0:
            if time.monotonic() - started > 20:
                os.kill(pid, signal.SIGKILL)
                sys.exit(f"moment {moment} hangs")
            time.sleep(0.001)
        if ended[1] != 0:
            sys.exit(f"moment {moment}: threads were left, or the exit was not clean: {ended[1]}")
        slowest = max(slowest, time.monotonic() - started)
    print(slowest)
"""


def test_ctrl_c_at_random_moments(parquet_files: Path) -> None:
    done = run(INTERRUPTED, parquet_files, SOAK, timeout=60 + 3 * SOAK)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 1


@pytest.mark.parametrize(
    "ending",
    [
        "cycle = [iterator]; cycle.append(cycle); del iterator, cycle",
        "for batch in iterator: sys.exit(7)",
        "for batch in iterator: break\ndel loader",
        # The batches are kept: torch gives the GIL up while it frees a tensor, and taking it again in a daemon thread
        # while the interpreter ends aborts the process (before Python 3.14), whatever loader the tensor came from.
        "kept = []; threading.Thread(target=lambda: [kept.extend(loader) for _ in iter(int, 1)], daemon=True).start()",
        "import importlib, zenith_torch.loader; importlib.reload(zenith_torch.loader)",
        "import atexit; atexit.register(lambda: next(iterator))",
    ],
)
def test_exits_with_a_live_iterator(parquet_files: Path, ending: str) -> None:
    code = "import sys, threading, time\nfrom zenith_torch import DataLoader\n"
    code += "loader = DataLoader(sys.argv[1], batch_size=10, num_workers=2, shuffle=True, seed=1)\n"
    code += "iterator = iter(loader)\nnext(iterator)\n"
    code += f"import atexit; atexit.register(lambda: print(time.monotonic(), flush=True))\n{ending}\n"
    done = run(code, parquet_files)
    took = time.monotonic() - float(done.stdout.splitlines()[-1])
    assert done.returncode == (7 if "7" in ending else 0), done.stderr
    assert done.stderr == ""
    assert took < 5, "an exit with live threads does not wait for them"


def test_forks_at_any_moment(parquet_files: Path) -> None:
    loader = DataLoader(parquet_files, batch_size=10, num_workers=4, shuffle=True, seed=1)
    iterator = iter(loader)
    whole = [batch["id"].tolist() for batch in DataLoader(parquet_files, batch_size=10, shuffle=True, seed=1)]
    seen = []
    for turn in range(50):
        seen.append(next(iterator)["id"].tolist())
        child = os.fork()
        if child == 0:
            try:
                next(iterator)
                os._exit(1)
            except zenith.ForkedEngineError:
                pass
            fresh = iter(DataLoader(loader.dataset, batch_size=10, num_workers=turn % 3, shuffle=True, seed=1))
            os._exit(0 if [next(fresh)["id"].tolist() for _ in range(3)] == whole[:3] else 2)
        deadline = time.monotonic() + 20
        status = (0, 0)
        while status[0] == 0 and time.monotonic() < deadline:
            status = os.waitpid(child, os.WNOHANG)
            time.sleep(0.001)
        assert status == (child, 0), f"the child of turn {turn} hangs or fails"
    seen += [batch["id"].tolist() for batch in iterator]
    assert seen == whole


# -- interpreters and threads ------------------------------------------------------------------------------------------


def test_a_second_interpreter_is_refused_clearly(parquet_files: Path) -> None:
    code = """
        import sys, zenith
        try:
            import _interpreters as interpreters
        except ImportError:
            import _xxsubinterpreters as interpreters
        second = interpreters.create()
        inner = '''
        try:
            import zenith
            zenith.Parquet({!r})[0]
            print("works")
        except ImportError as error:
            print("refused:", error)
        '''
        import textwrap
        interpreters.run_string(second, textwrap.dedent(inner).format(sys.argv[1]))
        print("first:", len(zenith.Parquet(sys.argv[1])))
    """
    done = run(code, parquet_files)
    assert done.returncode == 0, done.stderr
    assert "first: 10007" in done.stdout
    assert "works" in done.stdout or "refused:" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("workers", [0, 2])
def test_a_hundred_threads_share_one_iterator(parquet_files: Path, workers: int) -> None:
    iterator = iter(DataLoader(parquet_files, batch_size=7, num_workers=workers, shuffle=True, seed=0))
    seen: list[list[int]] = []
    failures: list[BaseException] = []

    def consume() -> None:
        try:
            for batch in iterator:
                seen.append(batch["id"].tolist())
        except BaseException as error:
            failures.append(error)

    consumers = [threading.Thread(target=consume, daemon=True) for _ in range(100)]
    for thread in consumers:
        thread.start()
    for thread in consumers:
        thread.join(60)
    assert not any(thread.is_alive() for thread in consumers)
    assert not failures
    expected = [batch["id"].tolist() for batch in DataLoader(parquet_files, batch_size=7, shuffle=True, seed=0)]
    assert sorted(seen) == sorted(expected), "every batch once"
