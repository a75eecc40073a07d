"""Peers that break the protocol, or the machine's limits, harm nobody but themselves."""

from __future__ import annotations

import random
import resource
import struct
import time
from pathlib import Path

import pytest
from store_support import GREETING, Store, raw, text, until_closed

LONG = struct.pack("=Q", 2**63)
MESSAGES = {
    "not a client": (b"GET / HTTP/1.1\r\n\r\n", "its first bytes are not those of a TCPStore client"),
    "a wrong magic number": (b"\x00" + bytes(4), "its first bytes are not those of a TCPStore client"),
    "an unknown operation": (GREETING + b"\x13", "operation 19 is not known; torch up to 2.13 has 0 to 18"),
    "a long key": (GREETING + b"\x03" + struct.pack("=Q", 8193), "a key of 8193 bytes; at most 8192 are allowed"),
    "an endless value": (
        GREETING + b"\x01" + text(b"/k") + LONG,
        "a value of 9223372036854775808 bytes; at most 8388608",
    ),
    "many keys": (
        GREETING + b"\x06" + struct.pack("=Q", 131073),
        "131073 keys in one request; at most 131072 are allowed",
    ),
    "a text that is no number": (
        GREETING + b"\x01" + text(b"/k") + text(b"abc") + b"\x04" + text(b"/k") + bytes(8),
        'key "/k" is to be added to and does not hold a number of 64 bits',
    ),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_it_is_closed_and_the_reason_told(name: str, store: Store) -> None:
    data, reason = MESSAGES[name]
    other = store.client()
    other.set("other", "v")
    with raw(store.port, data) as connection:
        address = "{}:{}".format(*connection.getsockname())
        assert until_closed(connection) == b""
    count, last = store.refusals()
    assert count == 1
    assert last.startswith(f"store: connection from {address} was closed: {reason}")
    assert other.get("other") == b"v"


def test_random_bytes(store: Store) -> None:
    """Also such as look like messages. Nobody else notices, and memory stays where it was."""
    other = store.client()
    other.set("other", "v")
    draw = random.Random(5)
    before = store.memory_kib()
    for _ in range(300):
        small = bytes(draw.choice([0, 1, 2, 3, 5, 6, 8, 10, 11, 14, 17, 255]) for _ in range(draw.randrange(200)))
        with raw(store.port, GREETING + draw.choice([small, draw.randbytes(200)])):
            pass
    assert other.get("other") == b"v"
    assert store.memory_kib() < before + 4096


def test_half_messages_hold_no_more_than_was_sent(store: Store) -> None:
    """Many announce 8 MiB each, and send 10 bytes of it."""
    other = store.client()
    other.set("other", "v")
    before = store.memory_kib()
    half = GREETING + b"\x01" + text(b"/k") + struct.pack("=Q", 8 << 20) + b"0123456789"
    halves = [raw(store.port, half) for _ in range(500)]
    assert other.get("other") == b"v"
    assert store.memory_kib() < before + 4096
    for connection in halves:
        connection.close()
    assert other.num_keys() == 1


def test_no_more_descriptors(program: Path) -> None:
    """Those who came first are served, at rest it takes no CPU, and when they go the others are let in."""
    limit = 24
    with Store(program, lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))) as store:
        first = store.client()
        first.set("k", "v")
        others = [raw(store.port, GREETING + b"\x07") for _ in range(40)]
        assert first.get("k") == b"v"

        def cpu_seconds() -> float:
            return sum(map(int, Path(f"/proc/{store.process.pid}/stat").read_text().split()[13:15])) / 100

        used = cpu_seconds()
        time.sleep(0.5)
        assert cpu_seconds() - used < 0.1
        served = 0
        while others:
            connection = others.pop(0)
            assert connection.recv(8) == struct.pack("=Q", 1)
            connection.close()
            served += 1
        assert served == 40
        assert first.get("k") == b"v"
