"""Small real files for the tests, written by pyarrow and numpy (never by our own code), and Ctrl-C as in a terminal."""

from __future__ import annotations

import faulthandler
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from _pytest.faulthandler import fault_handler_stderr_fd_key

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As shells start what runs in the background; the programs that tests start would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)

SECONDS_MAX = 120 + 10 * int(os.environ.get("ZENITH_SOAK", "0"))

ROWS = 10_007
FEATURES = 5


def table(rows: int = ROWS) -> pa.Table:
    """``f0..f4`` float32, ``id`` int64 (the row number), ``label`` int32."""
    random = np.random.default_rng(7)
    columns = {f"f{i}": random.random(rows, dtype=np.float32) for i in range(FEATURES)}
    columns["id"] = np.arange(rows, dtype=np.int64)
    columns["label"] = (np.arange(rows) % 10).astype(np.int32)
    return pa.table(columns)


@pytest.fixture(scope="session")
def parquet_table() -> pa.Table:
    return table()


@pytest.fixture(scope="session")
def parquet_files(tmp_path_factory: pytest.TempPathFactory, parquet_table: pa.Table) -> Path:
    """A directory of three Parquet files with ragged row groups; together they are `parquet_table`."""
    root = tmp_path_factory.mktemp("parquet")
    for number, (start, end, group) in enumerate([(0, 3000, 512), (3000, 3001, 512), (3001, ROWS, 700)]):
        pq.write_table(parquet_table.slice(start, end - start), root / f"part-{number}.parquet", row_group_size=group)
    return root


@pytest.fixture(scope="session")
def tokens_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokens") / "corpus.bin"
    np.random.default_rng(3).integers(0, 65536, 50_000, dtype=np.uint16).tofile(path)
    return path


@pytest.fixture(autouse=True, scope="session")
def _cache_folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Indexes of the tests' files are kept apart from the user's, by child processes too."""
    os.environ["ZENITH_CACHE_DIR"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def time_limit(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test that hangs ends the run, and says where it stood."""
    errors = request.config.stash.get(
        fault_handler_stderr_fd_key, 2
    )  # The standard error of before pytest captured it.
    faulthandler.dump_traceback_later(SECONDS_MAX, exit=True, file=errors)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
