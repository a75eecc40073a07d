"""Clients that speak TCPStore's protocol without torch, so that the server is what is measured and not they."""

from __future__ import annotations

import select
import socket
import struct
import time
from dataclasses import dataclass

from .store_servers import Server

WORD = struct.Struct("=Q")


def text(data: bytes) -> bytes:
    return WORD.pack(len(data)) + data


def connect(server: Server) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", server.port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(struct.pack("=BIBI", 0, 0x3C85F7CE, 13, 7))
    assert connection.recv(4, socket.MSG_WAITALL) == struct.pack("=I", 7)
    return connection


@dataclass(frozen=True)
class Requests:
    """So many requests, and so many bytes of answers."""

    data: bytes
    count: int
    answer_bytes: int


def mixed(client: int, groups: int) -> Requests:
    """SET, GET, ADD, CHECK, WAIT and COMPARE_SET as ranks use them: keys of about 40 bytes, addresses as values."""
    parts = []
    answers = 0
    for group in range(groups):
        key = text(f"/default_pg/0//rank{client:03}/address{group % 100:04}".encode())
        counter = text(f"/worker_count/group{client:03}".encode())
        value = bytes(64)
        parts += [
            b"\x01" + key + text(value),
            b"\x03" + key,
            b"\x04" + counter + struct.pack("=q", 1),
            b"\x05" + WORD.pack(1) + key,
            b"\x06" + WORD.pack(1) + key,
            b"\x02" + key + text(value) + text(value),
        ]
        answers += (8 + 64) + 8 + 1 + 1 + (8 + 64)
    return Requests(b"".join(parts), 6 * groups, answers)


def pipelined(server: Server, clients: int, rounds: int, groups: int = 200) -> tuple[float, float]:
    """Requests per second of `clients` connections that send `groups` of six requests at once and then take the answers,
    and the server's CPU microseconds per request."""
    connections = [connect(server) for _ in range(clients)]
    requests = [mixed(client, groups) for client in range(clients)]
    owed = [0] * clients
    rest = [memoryview(b"")] * clients
    left = [rounds] * clients
    poll = select.epoll()
    place = {connection.fileno(): client for client, connection in enumerate(connections)}
    for connection in connections:
        connection.setblocking(False)
        poll.register(connection, select.EPOLLIN | select.EPOLLOUT | select.EPOLLET)
    buffer = bytearray(1 << 18)
    busy = clients
    cpu = server.cpu_seconds()
    start = time.perf_counter()
    waiting = list(range(clients))
    while busy:
        for client in waiting:
            connection = connections[client]
            while True:
                try:
                    while owed[client] and (taken := connection.recv_into(buffer)):
                        owed[client] -= taken
                except BlockingIOError:
                    pass
                try:
                    while rest[client]:
                        rest[client] = rest[client][connection.send(rest[client]) :]
                except BlockingIOError:
                    pass
                if owed[client] or rest[client]:
                    break
                if not left[client]:
                    poll.unregister(connection)
                    busy -= 1
                    break
                left[client] -= 1
                rest[client] = memoryview(requests[client].data)
                owed[client] = requests[client].answer_bytes
        waiting = [place[fd] for fd, _ in poll.poll(10)] if busy else []
    seconds = time.perf_counter() - start
    cpu = server.cpu_seconds() - cpu
    for connection in connections:
        connection.close()
    total = rounds * sum(request.count for request in requests)
    return total / seconds, cpu / total * 1e6


def many(server: Server, idle: int, active: int, seconds: float) -> tuple[float, float, float]:
    """Requests per second, median and 99th percentile of the latency in microseconds: `active` connections ask (GET), each for
    one thing at a time, while `idle` ones do nothing."""
    sleeping = [connect(server) for _ in range(idle)]
    connections = [connect(server) for _ in range(active)]
    place = {connection.fileno(): connection for connection in connections}
    request = b"\x03" + text(b"/default_pg/0//rank000/address0000")
    connections[0].sendall(b"\x01" + text(b"/default_pg/0//rank000/address0000") + text(bytes(64)))
    poll = select.epoll()
    sent = {}
    latencies = []
    for connection in connections:
        poll.register(connection, select.EPOLLIN)
        sent[connection.fileno()] = time.perf_counter()
        connection.sendall(request)
    start = time.perf_counter()
    while time.perf_counter() - start < seconds:
        for fd, _ in poll.poll(10):
            answer = place[fd].recv(256)
            assert len(answer) == 72
            now = time.perf_counter()
            latencies.append(now - sent[fd])
            sent[fd] = now
            place[fd].sendall(request)
    for connection in [*connections, *sleeping]:
        connection.close()
    latencies.sort()
    rate = len(latencies) / seconds
    return rate, latencies[len(latencies) // 2] * 1e6, latencies[len(latencies) * 99 // 100] * 1e6
