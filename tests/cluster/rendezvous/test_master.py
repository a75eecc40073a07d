"""All ranks are told of the same, living, first node, whoever comes and goes (TW-7, TW-8)."""

from __future__ import annotations

import time
from pathlib import Path

from .conftest import Start
from .test_attempts import check_ranks


def test_a_failure_after_the_loss_of_the_first_node_meets_the_living(start: Start, tmp_path: Path) -> None:
    """Three nodes, the first is killed, then a rank fails: under torchrun one of the others goes on to tell of the dead address."""
    arguments = ["--nnodes=2:3", "--max-restarts=3", "--rdzv-conf=last_call_timeout=0.5"]
    fail = tmp_path / "fail"
    # Of the second restart on ranks stay.
    work = (
        f"[ $TORCHELASTIC_RESTART_COUNT = 2 ] && exec sleep 60; while :; do [ ! -e {fail} ] || exit 5; sleep 0.02; done"
    )
    host = start(work, *arguments, "--local-addr=127.0.0.3")
    time.sleep(0.3)
    first, second = (start(work, *arguments, f"--local-addr=127.0.0.{place}") for place in (1, 2))
    for node in (host, first, second):
        node.waits_for(" WORLD_SIZE=6", 2)
    assert check_ranks([first, second, host], 2)[0]["MASTER_ADDR"] == "127.0.0.1"
    first.kill()
    for node in (host, second):
        node.waits_for(" WORLD_SIZE=4", 2)
    before = check_ranks([host, second], 2, restarts="1")[0]
    fail.touch()
    for node in (host, second):
        node.waits_for(" WORLD_SIZE=4", 4)
    after = check_ranks([host, second], 2, restarts="2")[0]
    assert {before["MASTER_ADDR"], after["MASTER_ADDR"]} == {"127.0.0.2"}, "TW-8"
    assert before["MASTER_PORT"] != after["MASTER_PORT"], "TW-1: the store is a fresh one"
