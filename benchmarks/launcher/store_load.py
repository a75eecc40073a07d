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


class Crowd:
    """Clients of one server: `idle` connections that do nothing, and `active` ones that ask (GET) for one thing at a time."""

    def __init__(self, server: Server, idle: int, active: int) -> None:
        start = time.perf_counter()
        self.idle = [connect(server) for _ in range(idle)]
        self.active = {connection.fileno(): connection for connection in (connect(server) for _ in range(active))}
        self.connect_ms = (time.perf_counter() - start) * 1e3
        self.server = server
        key = text(b"/default_pg/0//rank000/address0000")
        next(iter(self.active.values())).sendall(b"\x01" + key + text(bytes(64)))
        self.request = b"\x03" + key

    def run(self, seconds: float) -> list[float]:
        """Requests per second, the server's CPU microseconds per request, median and 99th percentile of the latency in
        microseconds. They have the time in them that this one thread takes to get round to an answer, with both servers."""
        poll = select.epoll()
        sent = {}
        latencies = []
        cpu = self.server.cpu_seconds()
        for fd, connection in self.active.items():
            poll.register(fd, select.EPOLLIN)
            sent[fd] = time.perf_counter()
            connection.sendall(self.request)
        start = time.perf_counter()
        while sent:
            for fd, _ in poll.poll(10):
                assert len(self.active[fd].recv(256)) == 72
                now = time.perf_counter()
                latencies.append(now - sent.pop(fd))
                if now - start < seconds:
                    sent[fd] = now
                    self.active[fd].sendall(self.request)
        seconds = time.perf_counter() - start
        cpu = self.server.cpu_seconds() - cpu
        poll.close()
        latencies.sort()
        count = len(latencies)
        return [count / seconds, cpu / count * 1e6, latencies[count // 2] * 1e6, latencies[count * 99 // 100] * 1e6]
