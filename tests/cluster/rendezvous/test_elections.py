"""The host's node dies or is cut off, and the others go on under one that they elect."""

from __future__ import annotations

import time

from .conftest import Node, Start
from .test_attempts import check_ranks

LONG = "sleep 60"
QUICK = "last_call_timeout=0.5,keep_alive_interval=0.5"


def started(start: Start, count: int, *arguments: str, do: str = LONG, first: int = 1) -> list[Node]:
    """Nodes at 127.0.0.1, .2, .. which run together; the first is the host."""
    nodes = []
    for place in range(count):
        nodes.append(start(do, *arguments, f"--local-addr=127.0.0.{first + place}"))
        if place == 0:
            time.sleep(0.3)
    for node in nodes:
        node.waits_for(f" WORLD_SIZE={2 * count} ", 2)
    return nodes


def test_the_others_go_on_with_another_host_and_master(start: Start) -> None:
    arguments = ["--nnodes=2:3", "--max-restarts=2", f"--rdzv-conf={QUICK}"]
    nodes = started(start, 3, *arguments)
    assert check_ranks(nodes, 2)[0]["MASTER_ADDR"] == "127.0.0.1"
    nodes[0].kill()
    began = time.monotonic()
    for node in nodes[1:]:
        node.waits_for(" WORLD_SIZE=4 ", 2)
    assert time.monotonic() - began < 4
    ranks = check_ranks(nodes[1:], 2, restarts="1")
    assert ranks[0]["MASTER_ADDR"] == "127.0.0.2", "TW-8: of the lowest rank that lives"
    assert "this node is the host now, elected by 2 nodes" in nodes[1].stderr, "the one of the lowest group rank"
    assert len(nodes[1].ranks()) == len(nodes[2].ranks()) == 4, "one restart"


def test_hosts_that_die_one_after_another_are_replaced(start: Start) -> None:
    nodes = started(start, 4, "--nnodes=2:4", "--max-restarts=3", f"--rdzv-conf={QUICK}")
    for lost, left in ((0, 3), (1, 2)):
        nodes[lost].kill()
        for node in nodes[lost + 1 :]:
            node.waits_for(f" WORLD_SIZE={2 * left} ", 2)
        check_ranks(nodes[lost + 1 :], 2, restarts=str(lost + 1))


def test_the_other_of_two_nodes_does_not_go_on_alone(start: Start) -> None:
    nodes = started(start, 2, "--nnodes=1:2", "--max-restarts=2", f"--rdzv-conf={QUICK},close_timeout=1.5")
    nodes[0].kill()
    assert nodes[1].code() == 1
    assert "no other was elected" in nodes[1].stderr
    assert "1 of the 2 nodes that had a vote" in nodes[1].stderr
    assert "a spare node" in nodes[1].stderr
    assert len(nodes[1].ranks()) == 2


def test_a_spare_is_a_third_voter(start: Start) -> None:
    nodes = started(start, 2, "--nnodes=1:2", "--max-restarts=2", f"--rdzv-conf={QUICK}")
    spare = start(LONG, "--nnodes=1:2", "--max-restarts=2", f"--rdzv-conf={QUICK}", "--local-addr=127.0.0.3")
    # Votes follow who is here once in a heartbeat, which is half a second.
    time.sleep(2)
    assert spare.ranks() == []
    nodes[0].kill()
    for node in (nodes[1], spare):
        node.waits_for(" WORLD_SIZE=4 ", 2 if node is spare else 4)
    check_ranks([nodes[1], spare], 2, restarts="1")


def test_a_new_node_finds_the_elected_host_where_the_first_was(start: Start) -> None:
    arguments = ["--nnodes=2:3", "--max-restarts=2", f"--rdzv-conf={QUICK}"]
    nodes = started(start, 3, *arguments)
    nodes[0].kill()
    for node in nodes[1:]:
        node.waits_for(" WORLD_SIZE=4 ", 2)
    # It can have the endpoint's port, and takes itself for the host until it hears of the other.
    again = start(LONG, *arguments, "--local-addr=127.0.0.1")
    for node in (nodes[1], nodes[2], again):
        node.waits_for(" WORLD_SIZE=6 ", 2 if node is again else 4)
    ranks = check_ranks([nodes[1], nodes[2], again], 2, restarts="1")
    assert ranks[0]["MASTER_ADDR"] == "127.0.0.2", "places are kept"
    assert "the run has another host already" in again.stderr


def test_a_list_of_endpoints_leads_to_the_run_without_the_first(start: Start, port: int) -> None:
    arguments = ["--nnodes=2:3", "--max-restarts=2", f"--rdzv-conf={QUICK}"]
    # Any node of this machine can listen at the second; the first that comes does, whatever its other address is.
    endpoints = f"--rdzv-endpoint=127.0.0.1:{port},127.0.0.9:{port}"
    nodes = started(start, 3, *arguments, endpoints)
    nodes[0].kill()
    for node in nodes[1:]:
        node.waits_for(" WORLD_SIZE=4 ", 2)
    elsewhere = start(LONG, *arguments, endpoints, "--rdzv-conf=is_host=false", "--local-addr=127.0.0.4")
    for node in (nodes[1], nodes[2], elsewhere):
        node.waits_for(" WORLD_SIZE=6 ", 2 if node is elsewhere else 4)
    check_ranks([nodes[1], nodes[2], elsewhere], 2, restarts="1")


def test_an_election_can_be_done_without(start: Start) -> None:
    conf = f"--rdzv-conf={QUICK},election=false,close_timeout=1.5"
    nodes = started(start, 3, "--nnodes=1:3", "--max-restarts=2", conf)
    nodes[0].kill()
    assert [node.code() for node in nodes[1:]] == [1, 1]
    assert "is lost, and with it the run" in nodes[1].stderr
