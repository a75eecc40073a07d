"""The memory of a process and its descendants, sampled while it runs."""

from __future__ import annotations

import os
import threading
import time

INTERVAL_S = 0.01
COUNTED = (b"Pss_Anon:", b"Pss_Shmem:", b"Private_Hugetlb:", b"Shared_Hugetlb:")


def tree_bytes(pid: int) -> int:
    """Anonymous and shared memory of the tree of `pid`, in bytes; 0 when it is gone.

    Pages that several processes share (after a fork, or shared memory between workers) are counted once: these are the
    kernel's proportional sizes. Pages of mapped files are not counted: they are page cache.
    """
    return sum(process_bytes(member) for member in tree(pid))


def process_bytes(pid: int) -> int:
    """One process's part, in bytes."""
    total_kib = 0
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as source:
            for line in source:
                if line.startswith(COUNTED):
                    total_kib += int(line.split()[1])
    except OSError:
        return 0
    return total_kib * 1024


def tree(pid: int) -> list[int]:
    """`pid` and all its descendants."""
    members, waiting = [], [pid]
    while waiting:
        member = waiting.pop()
        members.append(member)
        try:
            for task in os.listdir(f"/proc/{member}/task"):
                with open(f"/proc/{member}/task/{task}/children", "rb") as source:
                    waiting.extend(map(int, source.read().split()))
        except OSError:
            continue
    return members


class TreeMemory:
    """Samples the tree of `pid` in a thread; `peak_bytes` is the largest sample. A context manager."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.baseline_bytes = tree_bytes(pid)
        self.peak_bytes = self.baseline_bytes
        self.samples: list[tuple[float, int]] = []
        """(seconds since the start, bytes)"""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="tree-memory", daemon=True)

    def __enter__(self) -> TreeMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def beyond_baseline_mib(self) -> float:
        """The peak beyond what the process held when the sampler was made, in MiB."""
        return (self.peak_bytes - self.baseline_bytes) / (1 << 20)

    def _sample(self) -> None:
        started_s = time.perf_counter()
        while not self._stop.wait(INTERVAL_S):
            now = tree_bytes(self.pid)
            self.samples.append((time.perf_counter() - started_s, now))
            self.peak_bytes = max(self.peak_bytes, now)
