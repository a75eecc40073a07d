"""Tests of the transport between worker processes and the main one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

# Datasets are unpickled in spawned workers, which find this folder in the path that they inherit.
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def _time_limit(time_limit: None) -> None:
    """Each of these tests has one."""
