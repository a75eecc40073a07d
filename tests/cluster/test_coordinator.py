"""`JAX_COORDINATOR_ADDRESS`: where rank 0 will serve JAX's coordinator, and that nobody else gets that port before."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

SECONDS = 60
SAY = 'echo "$TORCHELASTIC_RESTART_COUNT $RANK $JAX_COORDINATOR_ADDRESS $MASTER_PORT"; '
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(zenith_run: str, tmp_path: Path) -> Run:
    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
        environment |= {"OMP_NUM_THREADS": "1"} | variables
        return subprocess.run(
            [zenith_run, *arguments], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=SECONDS
        )

    return run


@pytest.mark.parametrize("flags", [(), ("--master-port=0",), ("--store=rank0",)], ids=["free", "given", "rank 0"])
def test_an_attempt_has_one_of_its_own(run: Run, flags: tuple[str, ...]) -> None:
    do = SAY + "[[ $TORCHELASTIC_RESTART_COUNT == 2 ]] || { [[ $RANK == 1 ]] && exit 1; sleep 20; }"
    done = run("--nproc-per-node=2", "--max-restarts=2", *flags, "--no-python", "bash", "-c", do)
    assert done.returncode == 0, done.stderr
    seen: dict[str, set[tuple[str, str]]] = {}
    for line in done.stdout.splitlines():
        attempt, _, address, master_port = line.split()
        host, _, port = address.rpartition(":")
        assert (host, port == master_port) == ("127.0.0.1", False)
        seen.setdefault(attempt, set()).add((address, master_port))
    assert sorted(seen) == ["0", "1", "2"]
    assert all(len(of_attempt) == 1 for of_attempt in seen.values()), "the ranks of an attempt agree"
    addresses = [next(iter(of_attempt))[0] for of_attempt in seen.values()]
    assert addresses[0] != addresses[1] != addresses[2]


# As who shares a port with nobody; as gRPC, which rank 0 is; and as a client of it.
HELD = """
import os, socket
host, _, port = os.environ["JAX_COORDINATOR_ADDRESS"].rpartition(":")
place = (host, int(port))
with socket.socket() as other:
    try:
        other.bind(place)
    except OSError:
        print("held")
server = socket.socket()
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
server.bind(place)
server.listen()
client = socket.create_connection(place)
server.accept()[0].sendall(b"served")
print(client.recv(6).decode())
"""


def test_the_port_is_held_for_rank_0(run: Run) -> None:
    done = run("--no-python", "python3", "-c", HELD)
    assert (done.returncode, done.stdout.split()) == (0, ["held", "served"]), done.stderr


def test_an_address_of_the_users_own_stays(run: Run) -> None:
    done = run("--no-python", "bash", "-c", SAY, JAX_COORDINATOR_ADDRESS="node0:1234")
    assert done.stdout.split()[2] == "node0:1234"


def test_a_launcher_in_a_rank_has_another(run: Run, zenith_run: str) -> None:
    do = f"{SAY} exec {zenith_run} --no-python bash -c '{SAY.replace('$', '$$')}'"
    done = run("--no-python", "bash", "-c", do.replace("$", "$$"))
    outer, inner = (line.split()[2] for line in done.stdout.splitlines())
    assert outer != inner


def test_a_dry_run_shows_it(run: Run) -> None:
    done = run("--dry-run", "--json", "--nproc-per-node=2", "--master-addr=::1", "--master-port=7", "train.py")
    environments = [worker["environment"] for worker in json.loads(done.stdout)["workers"]]
    assert [variables["JAX_COORDINATOR_ADDRESS"] for variables in environments] == ["[::1]:0"] * 2
