"""Process groups of torch over our store: they form, work, and form anew after a restart."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from store_support import Store

SOAK = int(os.environ.get("ZENITH_SOAK", "0"))


class Ranks:
    def __init__(self) -> None:
        command = [sys.executable, str(Path(__file__).with_name("ranks.py"))]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, store: Store, delays_s: list[float], attempt: int = 0, timeout_s: float = 30) -> dict[str, str]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        order = {"port": store.port, "attempt": attempt, "delays_s": delays_s, "timeout_s": timeout_s}
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


@pytest.fixture(scope="module")
def ranks() -> Iterator[Ranks]:
    running = Ranks()
    yield running
    assert running.process.stdin is not None
    assert running.process.stdout is not None
    running.process.stdin.close()
    assert running.process.wait(20) == 0
    running.process.stdout.close()


@pytest.mark.parametrize("world_size", [2, 3, 4, *([8] if SOAK else [])])
def test_a_group_forms_and_works(world_size: int, store: Store, ranks: Ranks) -> None:
    assert ranks.run(store, [0.0] * world_size) == {}
    assert store.client().num_keys() > world_size, "the store is what they met by"


@pytest.mark.parametrize("late", [0, 1])
def test_a_restart_with_a_late_rank(late: int, store: Store, ranks: Ranks) -> None:
    """Ranks of the second attempt must not meet what the first left: the early one would take the address of a dead rank."""
    assert ranks.run(store, [0.0, 0.0]) == {}
    for attempt in range(1, 2 + SOAK // 10):
        assert [key for key in store.client().list_keys() if key.endswith(f"/{late}")], "an address is left"
        store.renew()
        assert store.client().num_keys() == 0
        delays_s = [0.0, 0.0]
        delays_s[late] = 1.0
        assert ranks.run(store, delays_s, attempt) == {}
