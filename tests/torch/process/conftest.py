"""Tests of the transport between worker processes and the main one."""

from __future__ import annotations

import faulthandler
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from _pytest.faulthandler import fault_handler_stderr_fd_key

# Datasets are unpickled in spawned workers, which find this folder in the path that they inherit.
sys.path.insert(0, str(Path(__file__).parent))

SECONDS_MAX = 120 + 10 * int(os.environ.get("ZENITH_SOAK", "0"))


@pytest.fixture(autouse=True)
def _time_limit(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test that hangs ends the run, and says where it stood."""
    errors = request.config.stash.get(fault_handler_stderr_fd_key, 2)
    faulthandler.dump_traceback_later(SECONDS_MAX, exit=True, file=errors)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
