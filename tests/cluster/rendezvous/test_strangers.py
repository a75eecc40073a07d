"""What else comes to the port: other runs, other secrets, other programs."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path

import pytest

from .conftest import Node, Start

TWO = ["--nnodes=2"]


def secret(folder: Path, text: str) -> str:
    path = folder / f"secret-{text}"
    path.write_text(text)
    return f"--rdzv-conf=secret_file={path}"


def host_and(start: Start, hosts: list[str], others: list[str]) -> tuple[Node, Node]:
    host = start(":", *TWO, *hosts)
    time.sleep(0.3)
    return host, start(":", *TWO, *others)


def test_nodes_with_the_same_secret_meet(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_text("hush")
    nodes = [start(":", *TWO, ZENITH_RDZV_SECRET_FILE=str(path)) for _ in range(2)]
    assert [node.code() for node in nodes] == [0, 0]


def test_who_lacks_the_secret_is_told_so(start: Start, tmp_path: Path) -> None:
    for hosts, others, told in [
        (secret(tmp_path, "one"), "--rdzv-conf=a=b", "the host demands a secret, and this node has none"),
        ("--rdzv-conf=a=b", secret(tmp_path, "one"), "this node has a secret, and the host has none"),
        (secret(tmp_path, "one"), secret(tmp_path, "two"), "the host's secret is not this node's"),
    ]:
        host, other = host_and(start, [hosts], [others])
        assert other.code() == 1
        assert told in other.stderr
        assert host.process.poll() is None, "the host goes on waiting"
        host.kill()


def test_a_secret_file_that_cannot_be_read_is_an_error(start: Start, tmp_path: Path) -> None:
    node = start(":", *TWO, f"--rdzv-conf=secret_file={tmp_path / 'none'}")
    assert node.code() == 1
    assert "none: No such file" in node.stderr
    assert "openssl rand" in node.stderr


def test_another_run_at_the_same_endpoint_is_refused(start: Start) -> None:
    host, other = host_and(start, [], ["--rdzv-id=another"])
    assert other.code() == 1
    assert "--rdzv-id is not the host's" in other.stderr
    host.kill()


def test_the_same_node_rank_twice_is_refused(start: Start) -> None:
    host = start(":", "--nnodes=3", "--node-rank=0", backend="static")
    first = start(":", "--nnodes=3", "--node-rank=1", backend="static")
    time.sleep(0.4)
    second = start(":", "--nnodes=3", "--node-rank=1", backend="static")
    assert second.code() == 1
    assert "--node-rank=1 is taken by" in second.stderr
    for node in (host, first):
        node.kill()


def say(port: int, what: bytes) -> bytes:
    """What comes back, until the other side closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(what)
        answer = b""
        try:
            while piece := connection.recv(4096):
                answer += piece
        except ConnectionResetError:
            pass
        return answer


def test_requests_of_other_programs_are_closed_and_harm_nobody(start: Start, port: int) -> None:
    host = start(":", *TWO)
    time.sleep(0.3)
    silent = socket.create_connection(("127.0.0.1", port))
    partial = socket.create_connection(("127.0.0.1", port))
    partial.sendall(b"zrdz")
    assert say(port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n") == b""
    assert say(port, b"zrdzv/1\n" + b"\xff" * 64) == b""
    assert say(port, b"zrdzv/1\n\0\0\0\2[]") == b""
    assert say(port, bytes(range(1, 256)) * 100) == b""
    # As torch's clients begin.
    assert say(port, b"\x00\xce\xf7\x85\x3c\x0d\x01\x00\x00\x00") == b""
    host.waits_for("as torchrun does")
    assert "it does not speak as zenith-run does" in host.stderr
    began = time.monotonic()
    for connection in (silent, partial):
        connection.settimeout(10)
        assert connection.recv(1) == b""
        connection.close()
    assert time.monotonic() - began < 7
    second = start(":", *TWO)
    assert (host.code(), second.code()) == (0, 0)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_a_port_where_no_host_listens_is_named(start: Start, port: int, answer: bytes) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", port))
        server.listen()

        def serve() -> None:
            connection, _ = server.accept()
            connection.recv(4096)
            connection.sendall(answer)
            if answer:
                connection.close()
            else:
                kept.append(connection)

        kept: list[socket.socket] = []
        thread = threading.Thread(target=serve)
        thread.start()
        node = start(":", *TWO)
        assert node.code() == 1
        thread.join()
        for connection in kept:
            connection.close()
    told = "something that is not zenith-run's" if answer else "If it is torchrun's: both do not meet"
    assert told in node.stderr
