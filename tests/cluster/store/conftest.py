from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # For store_support, under importlib's import mode.

from store_support import Store, build


@pytest.fixture(autouse=True)
def _time_limit(program: Path, time_limit: None) -> None:
    """Each of these tests has one, in which building does not count."""


@pytest.fixture(scope="session")
def program() -> Path:
    return build()


@pytest.fixture
def store(program: Path) -> Iterator[Store]:
    with Store(program) as running:
        yield running
