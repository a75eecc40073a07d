"""Nodes join, fail, leave and are killed; the others restart or end, together."""

from __future__ import annotations

import signal
import time
from pathlib import Path

from .conftest import Start
from .test_attempts import check_ranks

LONG = "sleep 60"
ELASTIC = "--rdzv-conf=last_call_timeout=0.5"


def test_a_failure_on_one_node_restarts_all_with_one_count(start: Start) -> None:
    fails = "[ $TORCHELASTIC_RESTART_COUNT = 0 ] || exit 0; [ $RANK != 3 ] || { sleep 0.5; exit 7; }; sleep 60"
    nodes = [start(fails, "--nnodes=2", "--max-restarts=1", f"--local-addr=127.0.0.{place}") for place in (1, 2)]
    assert [node.code() for node in nodes] == [0, 0]
    check_ranks(nodes, 2, restarts="1")
    assert "restart 1 of 1" in nodes[0].stderr + nodes[1].stderr
    assert all(len(node.ranks()) == 4 for node in nodes)
    first, second = ({node.ranks()[at]["JAX_COORDINATOR_ADDRESS"] for node in nodes} for at in (0, -1))
    assert len(first | second) == 2, "a coordinator for each attempt"


def test_a_node_that_gives_up_ends_the_job_everywhere(start: Start) -> None:
    fails = "[ $RANK != 3 ] || exit 7; sleep 60"
    nodes = [start(fails, "--nnodes=2", f"--node-rank={rank}", backend="static") for rank in range(2)]
    began = time.monotonic()
    assert [node.code() for node in nodes] == [1, 1]
    assert time.monotonic() - began < 4, "TW-15"
    assert "rank 3 failed (exit code 7) on node" in nodes[0].stderr
    assert "ChildFailedError" in nodes[1].stderr, "the block stands where the failure was"
    assert "ChildFailedError" not in nodes[0].stderr


def test_an_attempt_begins_when_the_ranks_of_all_nodes_are_gone(start: Start) -> None:
    tell = "echo $TORCHELASTIC_RESTART_COUNT AT $(date +%s.%N)"
    fails = (
        f"trap '' TERM; {tell}; [ $RANK$TORCHELASTIC_RESTART_COUNT != 00 ] || {{ sleep 0.3; exit 7; }}; sleep 1; {tell}"
    )
    nodes = [
        start(fails, "--nnodes=2", "--max-restarts=1", f"--node-rank={rank}", backend="static") for rank in range(2)
    ]
    assert [node.code() for node in nodes] == [0, 0]
    check_ranks(nodes, 2, restarts="1")
    times = [line.split(" AT ") for node in nodes for line in node.stdout.splitlines() if " AT " in line]
    first, second = ([float(time) for count, time in times if count == wanted] for wanted in "01")
    assert (len(first), len(second)) == (7, 8), "those that ignore SIGTERM end by themselves"
    assert max(first) < min(second)


def test_a_node_that_joins_gets_the_address_that_all_have(start: Start) -> None:
    second = start(LONG, "--nnodes=1:2", "--rdzv-conf=membership=final", "--local-addr=127.0.0.2")
    second.waits_for(" WORLD_SIZE=", 2)
    first = start(LONG, "--nnodes=1:2", "--rdzv-conf=membership=final", "--local-addr=127.0.0.1")
    first.waits_for(" WORLD_SIZE=", 2)
    second.waits_for(" WORLD_SIZE=", 4)
    ranks = check_ranks([second, first], 2)
    assert ranks[0]["MASTER_ADDR"] == "127.0.0.2", "TW-7, and whoever was there keeps its place"


def test_a_dead_first_node_is_nobodys_master(start: Start) -> None:
    arguments = ["--nnodes=2:3", "--max-restarts=2", ELASTIC]
    host = start(LONG, *arguments, "--local-addr=127.0.0.3")
    time.sleep(0.3)
    first, second = (start(LONG, *arguments, f"--local-addr=127.0.0.{place}") for place in (1, 2))
    for node in (host, first, second):
        node.waits_for(" WORLD_SIZE=6", 2)
    assert check_ranks([first, second, host], 2)[0]["MASTER_ADDR"] == "127.0.0.1"
    first.kill()
    for node in (host, second):
        node.waits_for(" WORLD_SIZE=4", 2)
    assert check_ranks([host, second], 2, restarts="1")[0]["MASTER_ADDR"] == "127.0.0.2", "TW-8"


def test_a_killed_node_ends_the_job_when_no_restart_is_left(start: Start) -> None:
    nodes = [start(LONG, "--nnodes=2", f"--node-rank={rank}", backend="static") for rank in range(2)]
    for node in nodes:
        node.waits_for(" WORLD_SIZE=", 2)
    nodes[1].kill()
    began = time.monotonic()
    assert nodes[0].code() == 1
    assert time.monotonic() - began < 4, "TW-14"
    assert "is lost: its connection ended" in nodes[0].stderr


def test_a_static_node_that_is_started_again_has_its_place(start: Start, port: int) -> None:
    arguments = ["--nnodes=2", "--max-restarts=1"]
    work = "[ $TORCHELASTIC_RESTART_COUNT = 1 ] || sleep 60"
    nodes = [start(work, *arguments, f"--node-rank={rank}", backend="static") for rank in range(2)]
    for node in nodes:
        node.waits_for(" WORLD_SIZE=", 2)
    nodes[1].kill()
    again = start(work, *arguments, "--node-rank=1", backend="static")
    assert [nodes[0].code(), again.code()] == [0, 0]
    ranks = check_ranks([nodes[0], again], 2, restarts="1")
    assert ranks[3]["MASTER_PORT"] == str(port)


def test_a_killed_host_ends_the_job_and_is_named(start: Start, port: int) -> None:
    nodes = [
        start(LONG, "--nnodes=2", "--rdzv-conf=keep_alive_interval=0.5", f"--node-rank={rank}", backend="static")
        for rank in range(2)
    ]
    for node in nodes:
        node.waits_for(" WORLD_SIZE=", 2)
    nodes[0].kill()
    began = time.monotonic()
    assert nodes[1].code() == 1
    assert time.monotonic() - began < 6
    assert f"the rendezvous' host at 127.0.0.1 port {port} is lost" in nodes[1].stderr


def test_a_stopped_node_is_dead_and_comes_back_when_it_goes_on(start: Start) -> None:
    arguments = [
        "--nnodes=1:2",
        "--max-restarts=3",
        "--rdzv-conf=membership=final,keep_alive_interval=0.7,keep_alive_max_attempt=2",
    ]
    host = start(LONG, *arguments)
    host.waits_for(" WORLD_SIZE=2", 2)
    other = start(LONG, *arguments)
    other.waits_for(" WORLD_SIZE=4", 2)
    other.process.send_signal(signal.SIGSTOP)
    host.waits_for("no heartbeat for 1.4 s")
    host.waits_for(" WORLD_SIZE=2", 4)
    other.process.send_signal(signal.SIGCONT)
    other.waits_for(" WORLD_SIZE=4", 4)
    host.waits_for(" WORLD_SIZE=4", 4)
    check_ranks([host, other], 2, restarts="1")


def test_a_short_stop_of_the_host_is_no_death(start: Start) -> None:
    nodes = [start("sleep 2.5", "--nnodes=2", f"--node-rank={rank}", backend="static") for rank in range(2)]
    for node in nodes:
        node.waits_for(" WORLD_SIZE=", 2)
    nodes[0].process.send_signal(signal.SIGSTOP)
    time.sleep(1.5)
    nodes[0].process.send_signal(signal.SIGCONT)
    assert [node.code() for node in nodes] == [0, 0]
    assert all(len(node.ranks()) == 2 for node in nodes)


def test_a_suspended_node_says_so(start: Start) -> None:
    nodes = [start("sleep 1", "--nnodes=2", f"--node-rank={rank}", backend="static") for rank in range(2)]
    for node in nodes:
        node.waits_for(" WORLD_SIZE=", 2)
    nodes[1].process.send_signal(signal.SIGTSTP)
    nodes[0].waits_for("is suspended \\(SIGTSTP\\)")
    nodes[1].process.send_signal(signal.SIGCONT)
    assert [node.code() for node in nodes] == [0, 0]


def test_a_signal_to_one_node_ends_all(start: Start) -> None:
    nodes = [start(LONG, "--nnodes=2", f"--node-rank={rank}", backend="static") for rank in range(2)]
    for node in nodes:
        node.waits_for(" WORLD_SIZE=", 2)
    nodes[0].process.send_signal(signal.SIGTERM)
    assert [node.code() for node in nodes] == [1, 1]
    assert "SignalException" in nodes[0].stderr
    assert "it was stopped by signal 15; it was the host of the rendezvous" in nodes[1].stderr


def test_a_spare_ends_well_with_the_job_or_takes_a_place(start: Start, tmp_path: Path) -> None:
    stop = tmp_path / "stop"
    nodes = []
    for _ in range(4):
        nodes.append(start(f"while [ ! -e {stop} ]; do sleep 0.02; done", "--nnodes=2:2", "--max-restarts=1"))
        time.sleep(0.3)
    host, second, third, fourth = nodes
    for node in (host, second):
        node.waits_for(" WORLD_SIZE=", 2)
    assert (third.ranks(), fourth.ranks()) == ([], [])
    second.kill()
    third.waits_for(" WORLD_SIZE=", 2)
    host.waits_for(" WORLD_SIZE=", 4)
    check_ranks([host, third], 2, restarts="1")
    stop.touch()
    assert [node.code() for node in (host, third, fourth)] == [0, 0, 0], "TW-9"
    assert fourth.ranks() == []


def test_nobody_leaves_before_the_last_has_ended(start: Start) -> None:
    nodes = [start(f"sleep {rank}", "--nnodes=2", f"--node-rank={rank}", backend="static") for rank in range(2)]
    nodes[1].waits_for(" WORLD_SIZE=", 2)
    time.sleep(0.5)
    assert nodes[0].process.poll() is None, "its ranks have ended, but it has the store of the others"
    assert [node.code() for node in nodes] == [0, 0]
