"""The workers' store beside torch's own server (libuv): `python -m benchmarks.launcher.store`. Needs torch and cargo.

Runs are interleaved, so that what else the machine does hits both; the table has medians, and ratios of medians. A server's CPU
time is that of the thread that serves.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from datetime import timedelta

from torch.distributed import TCPStore

from .store_load import many, pipelined
from .store_servers import Server, both

VALUE = "x" * 64

OPERATIONS: dict[str, Callable[[TCPStore, int], object]] = {
    "set": lambda store, n: store.set(f"key{n % 100}", VALUE),
    "get": lambda store, n: store.get(f"key{n % 100}"),
    "add": lambda store, n: store.add("counter", 1),
    "check": lambda store, n: store.check([f"key{n % 100}"]),
    "wait, there already": lambda store, n: store.wait([f"key{n % 100}"], timedelta(seconds=10)),
    "compare_set": lambda store, n: store.compare_set(f"key{n % 100}", VALUE, VALUE),
    "multi_get of 8": lambda store, n: store.multi_get([f"key{(n + i) % 100}" for i in range(8)]),
    "queue_push, queue_pop": lambda store, n: (store.queue_push("queue", VALUE), store.queue_pop("queue")),
}


def client_run(
    server: Server, store: TCPStore, operation: Callable[[TCPStore, int], object], calls: int
) -> list[float]:
    """Calls per second of torch's client, and the server's CPU microseconds per call."""
    cpu = server.cpu_seconds()
    start = time.perf_counter()
    for n in range(calls):
        operation(store, n)
    store.num_keys()  # Of what has no answer, nothing is left on its way.
    seconds = time.perf_counter() - start
    return [calls / seconds, (server.cpu_seconds() - cpu) / calls * 1e6]


def interleaved(servers: list[Server], runs: int, measure: Callable[[Server], list[float]]) -> dict[str, list[float]]:
    """The medians of each figure, by server."""
    seen: dict[str, list[list[float]]] = {server.name: [] for server in servers}
    for run in range(runs):
        for server in servers if run % 2 else servers[::-1]:
            seen[server.name].append(measure(server))
    return {name: [statistics.median(figures) for figures in zip(*rows, strict=True)] for name, rows in seen.items()}


def row(name: str, figures: dict[str, list[float]]) -> str:
    ours, theirs = figures["zenith"], figures["torch"]
    return (
        f"| {name} | {ours[0]:,.0f} | {theirs[0]:,.0f} | {ours[0] / theirs[0]:.2f} × "
        f"| {ours[1]:.2f} | {theirs[1]:.2f} | {ours[1] / theirs[1]:.2f} × |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7, help="interleaved runs of each measurement (7)")
    parser.add_argument("--calls", type=int, default=3000, help="calls of torch's client in a run (3000)")
    parser.add_argument("--only", default="", help="measurements whose name contains this")
    options = parser.parse_args()

    with both() as servers:
        stores = {
            server.name: TCPStore("127.0.0.1", server.port, is_master=False, wait_for_workers=False)
            for server in servers
        }
        for store in stores.values():
            for n in range(100):
                store.set(f"key{n}", VALUE)

        print(
            "| | zenith, 1/s | torch, 1/s | rate | zenith, CPU µs | torch, CPU µs | CPU |\n|---|--:|--:|--:|--:|--:|--:|"
        )
        for name, operation in OPERATIONS.items():
            if options.only in name:
                figures = interleaved(
                    servers,
                    options.runs,
                    lambda server, operation=operation: client_run(
                        server, stores[server.name], operation, options.calls
                    ),
                )
                print(row(f"torch's client: {name}", figures), flush=True)
        if options.only in "8 connections, pipelined":
            figures = interleaved(servers, options.runs, lambda server: list(pipelined(server, clients=8, rounds=20)))
            print(row("8 connections, pipelined", figures))
        if options.only in "512 idle, 64 active":
            print("\n| 512 idle, 64 active | 1/s | median µs | p99 µs |\n|---|--:|--:|--:|")
            figures = interleaved(servers, options.runs, lambda server: list(many(server, 512, 64, seconds=1.0)))
            for name, (rate, median, p99) in figures.items():
                print(f"| {name} | {rate:,.0f} | {median:,.0f} | {p99:,.0f} |")


if __name__ == "__main__":
    main()
