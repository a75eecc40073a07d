"""Nodes in network namespaces, of which one is cut off and comes back."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from .conftest import SAY, Node
from .test_attempts import check_ranks

COUNT = 3


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


@dataclass
class Network:
    name: str

    def address(self, place: int) -> str:
        return f"10.203.77.{place + 1}"

    def cut(self, place: int) -> None:
        ip("link", "set", f"{self.name}p{place}", "down")

    def heal(self, place: int) -> None:
        ip("link", "set", f"{self.name}p{place}", "up")


@pytest.fixture
def network() -> Iterator[Network]:
    """A bridge with a namespace at each port. The machine itself has no address there."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces are made by root alone")
    network = Network(f"z{os.getpid() % 100_000}")
    name = network.name
    try:
        ip("link", "add", f"{name}b", "type", "bridge")
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no network of its own can be made here: {error}")
    try:
        ip("link", "set", f"{name}b", "up")
        for place in range(COUNT):
            space, port = f"{name}n{place}", f"{name}p{place}"
            ip("netns", "add", space)
            ip("link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", space)
            ip("link", "set", port, "master", f"{name}b", "up")
            ip("-n", space, "addr", "add", f"{network.address(place)}/24", "dev", "eth0")
            ip("-n", space, "link", "set", "eth0", "up")
            ip("-n", space, "link", "set", "lo", "up")
        yield network
    finally:
        for place in range(COUNT):
            # Connections that were cut keep their namespace for minutes, and with it the link.
            subprocess.run(["ip", "link", "del", f"{name}p{place}"], capture_output=True, check=False)
            subprocess.run(["ip", "netns", "del", f"{name}n{place}"], capture_output=True, check=False)
        ip("link", "del", f"{name}b")


@pytest.fixture
def nodes(zenith_run: str, network: Network, tmp_path: Path) -> Iterator[list[Node]]:
    """A node in each namespace; the first is the host."""
    nodes: list[Node] = []
    try:
        for place in range(COUNT):
            folder = tmp_path / str(place)
            folder.mkdir()
            command = ["ip", "netns", "exec", f"{network.name}n{place}", zenith_run, "--nproc-per-node=2"]
            command += ["--nnodes=2:3", "--max-restarts=3", "--rdzv-backend=c10d", "--rdzv-id=test"]
            command += [
                f"--rdzv-endpoint={network.address(0)}:29400",
                "--rdzv-conf=last_call_timeout=0.5,keep_alive_interval=0.5",
            ]
            command += [f"--log-dir={folder / 'logs'}", "--no-python", "bash", "-c", f'echo "{SAY}"; sleep 60']
            with (folder / "stdout").open("wb") as stdout, (folder / "stderr").open("wb") as stderr:
                environment = os.environ | {"OMP_NUM_THREADS": "1"}
                process = subprocess.Popen(command, env=environment, stdout=stdout, stderr=stderr)
            nodes.append(Node(process, folder))
            time.sleep(0.1)
        for node in nodes:
            node.waits_for(" WORLD_SIZE=6", 2)
        yield nodes
    finally:
        for node in nodes:
            node.kill()


def test_a_node_that_is_cut_off_is_left_behind_and_taken_in_again(network: Network, nodes: list[Node]) -> None:
    network.cut(2)
    began = time.monotonic()
    for node in nodes[:2]:
        node.waits_for(" WORLD_SIZE=4", 2)
    assert time.monotonic() - began < 4.5, "TW-14"
    assert "no heartbeat for 1.5 s" in nodes[0].stderr
    check_ranks(nodes[:2], 2, restarts="1")
    nodes[2].waits_for("the rendezvous' host was silent for 1.5 s")
    network.heal(2)
    for node in nodes:
        node.waits_for(" WORLD_SIZE=6", 4)
    check_ranks(nodes, 2, restarts="1")
    assert "secret_file" in nodes[0].stderr, "whoever reaches the port can take part, and that is said"


def test_a_host_that_is_cut_off_is_replaced_and_follows_when_it_comes_back(network: Network, nodes: list[Node]) -> None:
    network.cut(0)
    for node in nodes[1:]:
        node.waits_for(" WORLD_SIZE=4", 2)
    ranks = check_ranks(nodes[1:], 2, restarts="1")
    assert ranks[0]["MASTER_ADDR"] == network.address(1), "TW-8"
    nodes[0].waits_for("the host has lost too many nodes at once to go on")
    assert len(nodes[0].ranks()) == 2, "F-46: the side of one stands still"
    network.heal(0)
    for node in nodes:
        node.waits_for(" WORLD_SIZE=6", 4)
    ranks = check_ranks([nodes[1], nodes[2], nodes[0]], 2, restarts="1")
    assert ranks[0]["MASTER_ADDR"] == network.address(1)
