from __future__ import annotations

import faulthandler
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from _pytest.faulthandler import fault_handler_stderr_fd_key

sys.path.insert(0, str(Path(__file__).parent))  # For store_support, under importlib's import mode.

from store_support import Store, build

SECONDS_MAX = 120 + 10 * int(os.environ.get("ZENITH_SOAK", "0"))


@pytest.fixture(autouse=True)
def _time_limit(request: pytest.FixtureRequest, program: Path) -> Iterator[None]:
    """A test that hangs ends the run, and says where it stood. Building does not count."""
    errors = request.config.stash.get(fault_handler_stderr_fd_key, 2)
    faulthandler.dump_traceback_later(SECONDS_MAX, exit=True, file=errors)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


@pytest.fixture(scope="session")
def program() -> Path:
    return build()


@pytest.fixture
def store(program: Path) -> Iterator[Store]:
    with Store(program) as running:
        yield running
