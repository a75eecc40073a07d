"""Nodes meet, and all of their ranks are told the same."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from pathlib import Path

import pytest

from .conftest import Node, Start


def check_ranks(nodes: list[Node], per_node: int, restarts: str = "0") -> list[dict[str, str]]:
    """The last attempt of `nodes`, by rank; every rank must agree with every other."""
    ranks = sorted((rank for node in nodes for rank in node.ranks()[-per_node:]), key=lambda rank: int(rank["RANK"]))
    world = len(nodes) * per_node
    assert [int(rank["RANK"]) for rank in ranks] == list(range(world))
    for number, rank in enumerate(ranks):
        assert int(rank["GROUP_RANK"]) == number // per_node
        assert int(rank["LOCAL_RANK"]) == number % per_node
        assert rank["WORLD_SIZE"] == str(world)
        assert rank["GROUP_WORLD_SIZE"] == str(len(nodes))
        assert rank["TORCHELASTIC_RESTART_COUNT"] == restarts
    assert len({(rank["MASTER_ADDR"], rank["MASTER_PORT"], rank["TORCHELASTIC_RUN_ID"]) for rank in ranks}) == 1
    (coordinator,) = {rank["JAX_COORDINATOR_ADDRESS"] for rank in ranks}
    host, _, coordinator_port = coordinator.rpartition(":")
    assert (host, coordinator_port == ranks[0]["MASTER_PORT"]) == (ranks[0]["MASTER_ADDR"], False)
    return ranks


@pytest.mark.parametrize("count", [2, 3])
def test_static_nodes_have_the_ranks_that_they_were_given(start: Start, port: int, count: int) -> None:
    nodes = [start(":", f"--nnodes={count}", f"--node-rank={rank}", backend="static") for rank in range(count)]
    assert [node.code() for node in nodes] == [0] * count
    ranks = check_ranks(nodes, 2)
    assert {(rank["MASTER_ADDR"], rank["MASTER_PORT"]) for rank in ranks} == {("127.0.0.1", str(port))}, "T-34"
    assert [node.ranks()[0]["GROUP_RANK"] for node in nodes] == [str(rank) for rank in range(count)]
    assert {rank["TORCHELASTIC_USE_AGENT_STORE"] for rank in ranks} == {"True"}


@pytest.mark.parametrize("count", [2, 3])
def test_c10d_nodes_are_ordered_by_address(start: Start, port: int, count: int) -> None:
    addresses = [f"127.0.0.{count - place}" for place in range(count)]
    nodes = [start(":", f"--nnodes={count}", f"--local-addr={address}") for address in addresses]
    assert [node.code() for node in nodes] == [0] * count
    ranks = check_ranks(nodes, 2)
    assert ranks[0]["MASTER_ADDR"] == "127.0.0.1"
    assert ranks[0]["MASTER_PORT"] != str(port), "the store has a port of its own"
    assert [node.ranks()[0]["GROUP_RANK"] for node in nodes] == [str(count - 1 - place) for place in range(count)]


def test_topology_comes_before_addresses(start: Start) -> None:
    far = start(":", "--nnodes=2", "--local-addr=127.0.0.1", "--rdzv-conf=topology=leaf2.n1")
    near = start(":", "--nnodes=2", "--local-addr=127.0.0.2", SLURM_TOPOLOGY_ADDR="leaf1.n9")
    assert (far.code(), near.code()) == (0, 0)
    assert (near.ranks()[0]["GROUP_RANK"], far.ranks()[0]["GROUP_RANK"]) == ("0", "1")


def test_nodes_may_have_different_numbers_of_ranks(start: Start) -> None:
    first = start(":", "--nnodes=2", "--local-addr=127.0.0.1", "--nproc-per-node=1")
    second = start(":", "--nnodes=2", "--local-addr=127.0.0.2", "--nproc-per-node=3")
    assert (first.code(), second.code()) == (0, 0)
    assert [rank["RANK"] for rank in first.ranks()] == ["0"]
    assert sorted(rank["RANK"] for rank in second.ranks()) == ["1", "2", "3"], "T-24"
    assert {rank["WORLD_SIZE"] for rank in second.ranks()} == {"4"}
    assert {rank["LOCAL_WORLD_SIZE"] for rank in second.ranks()} == {"3"}


def test_a_final_membership_starts_at_once(start: Start) -> None:
    began = time.monotonic()
    node = start(":", "--nnodes=1:2", "--rdzv-conf=membership=final")
    assert node.code() == 0
    assert time.monotonic() - began <= 1.0
    assert node.ranks()[0]["WORLD_SIZE"] == "2"
    began = time.monotonic()
    assert start(":", "--nnodes=1:4", SLURM_JOB_NUM_NODES="1").code() == 0
    assert time.monotonic() - began <= 1.0


def test_a_slurm_step_needs_no_flags(start: Start, port: int) -> None:
    step = {"SLURM_STEP_NUM_NODES": "2", "SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NODELIST": "127.0.0.1"}
    step |= {"SLURM_JOB_ID": str(port), "SLURM_STEP_ID": "0"}
    nodes = [start(":", backend="none", SLURM_NODEID=str(rank), **step) for rank in (1, 0)]
    assert [node.code() for node in nodes] == [0, 0]
    ranks = check_ranks(nodes, 2)
    assert ranks[0]["TORCHELASTIC_RUN_ID"] == f"slurm.{port}.0"
    assert [node.ranks()[0]["GROUP_RANK"] for node in nodes] == ["1", "0"]
    assert "this Slurm step has 2 nodes" in nodes[0].stderr


def test_too_few_nodes_end_with_their_names(start: Start) -> None:
    node = start(":", "--nnodes=2", "--rdzv-conf=join_timeout=1")
    assert node.code() == 1
    assert "1 of at least 2 nodes have come within 1 s" in node.stderr
    assert node.ranks() == []


def test_a_terminal_shows_who_is_waited_for(zenith_run: str, port: int, tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    endpoint = f"--rdzv-endpoint=127.0.0.1:{port}"
    conf = "--rdzv-conf=join_timeout=1.5,keep_alive_interval=0.5"
    command = [zenith_run, "--nnodes=3", "--rdzv-backend=c10d", endpoint, conf, f"--log-dir={tmp_path}", "true"]
    process = subprocess.Popen(command, stderr=theirs)
    os.close(theirs)
    told = b""
    # The end of a terminal is an error on Linux.
    with contextlib.suppress(OSError):
        while piece := os.read(ours, 4096):
            told += piece
    os.close(ours)
    assert process.wait(20) == 1
    lines = [line for line in told.decode().split("\r\x1b[K") if line.startswith("zenith-run: 3 nodes wanted")]
    assert lines, told
    assert "waiting for more, giving up in " in lines[0]
    assert "here: " in lines[0]


ALL_REDUCE = """$PYTHON - <<'EOF'
import datetime, os, sys, torch, torch.distributed as dist
dist.init_process_group("gloo", timeout=datetime.timedelta(seconds=30))
value = torch.tensor([dist.get_rank() + 1.0])
dist.all_reduce(value)
assert value.item() == 3.0, value
print("sum", value.item())
dist.destroy_process_group()
sys.exit(os.environ["FAIL_ONCE"] == "1" and os.environ["RANK"] == "1" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0")
EOF"""


@pytest.mark.parametrize(("backend", "restarts"), [("static", 1), ("c10d", 0)])
def test_torch_reduces_over_two_nodes_and_again_after_a_restart(start: Start, backend: str, restarts: int) -> None:
    pytest.importorskip("torch")
    arguments = ["--nnodes=2", "--nproc-per-node=1", f"--max-restarts={restarts}"]
    nodes = [
        start(
            ALL_REDUCE,
            *arguments,
            f"--node-rank={rank}",
            backend=backend,
            FAIL_ONCE=str(restarts),
            GLOO_SOCKET_IFNAME="lo",
        )
        for rank in range(2)
    ]
    assert [node.code() for node in nodes] == [0, 0], nodes[0].stderr + nodes[1].stderr
    # A rank that has reduced may be stopped before it says so.
    assert all(node.stdout.count("sum 3.0") >= 1 for node in nodes)
    check_ranks(nodes, 1, restarts=str(restarts))


def test_a_dry_run_meets_nobody(start: Start, port: int) -> None:
    node = start(":", "--nnodes=4", "--node-rank=1", "--dry-run", backend="static")
    assert node.code() == 0
    assert f"nodes: 4 to 4, which meet at 127.0.0.1 port {port}" in node.stdout
    assert "WORLD_SIZE=8" in node.stdout
    assert "RANK=3" in node.stdout


def test_every_attempt_has_its_own_folder(start: Start) -> None:
    first = start("sleep 0.5", "--nnodes=1:2", "--rdzv-conf=membership=final", "--redirects=3")
    until = time.monotonic() + 20
    while not list(first.folder.glob("logs/*/attempt_0/0/stdout.log")):
        assert time.monotonic() < until
        time.sleep(0.01)
    second = start("sleep 0.1", "--nnodes=1:2", "--rdzv-conf=membership=final", "--redirects=3")
    assert (first.code(), second.code()) == (0, 0)

    def said(folder: Path) -> list[str]:
        return [line for path in folder.glob("*/stdout.log") for line in path.read_text().splitlines()]

    [run] = (first.folder / "logs").iterdir()
    worlds = {path.name: {line.split("WORLD_SIZE=")[1][0] for line in said(path)} for path in run.iterdir()}
    assert worlds == {"attempt_0": {"2"}, "attempt_1": {"4"}}, "TW-4"
    restarts = {line.split("RESTART_COUNT=")[1][0] for path in run.iterdir() for line in said(path)}
    assert restarts == {"0"}, "T-38: a join consumes none"
