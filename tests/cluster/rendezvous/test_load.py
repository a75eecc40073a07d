"""A machine that has far more to do than it can is no reason to take a node for dead."""

from __future__ import annotations

import signal
import time

import pytest

from .conftest import Start

pytestmark = pytest.mark.usefixtures("time_limit")
BUSY = "while ((SECONDS < 6)); do :; done"


def test_busy_ranks_and_short_stops_are_no_death(start: Start) -> None:
    """64 ranks that compute all the time, on whatever cores there are, and launchers that are stopped for a second each."""
    nodes = [start(BUSY, "--nnodes=2", "--nproc-per-node=32", "--max-restarts=1") for _ in range(2)]
    for node in nodes:
        node.waits_for("(?m)^RANK=", 32)
    for node in nodes:
        node.process.send_signal(signal.SIGSTOP)
        time.sleep(1)
        node.process.send_signal(signal.SIGCONT)
    assert [node.code() for node in nodes] == [0, 0], [node.stderr for node in nodes]
    for node in nodes:
        assert len(node.ranks()) == 32, node.stderr
        assert "lost" not in node.stderr
        assert "restart" not in node.stderr
