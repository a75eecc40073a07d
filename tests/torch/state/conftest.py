"""The state of a loader over any dataset: a fresh loader that takes it continues exactly where it was taken."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# Datasets are pickled by the names of these modules.
sys.path.insert(0, str(Path(__file__).parent))

SECONDS_MAX = 60


@pytest.fixture(autouse=True)
def _guard() -> Iterator[None]:
    """A loader that hangs fails its test."""

    def on_alarm(*_: object) -> None:
        raise TimeoutError(f"no end after {SECONDS_MAX} s")

    before = signal.signal(signal.SIGALRM, on_alarm)
    signal.alarm(SECONDS_MAX)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
