"""Shared memory of both kinds, for ranks and for strangers."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

SHARED = Path("/dev/shm")
PRIVATE, CREATE, REMOVE = 0, 0o1000, 0
library = ctypes.CDLL(None, use_errno=True)
library.shmat.restype = ctypes.c_void_p
library.shmat.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_int]
library.shmdt.argtypes = [ctypes.c_void_p]


def segment(size: int = 4096) -> int:
    """A new segment of System V, which nobody has attached."""
    made = library.shmget(PRIVATE, ctypes.c_size_t(size), CREATE | 0o600)
    assert made >= 0, os.strerror(ctypes.get_errno())
    return int(made)


def attached(number: int) -> int:
    address = library.shmat(number, None, 0)
    assert address not in (None, ctypes.c_void_p(-1).value), os.strerror(ctypes.get_errno())
    return int(address)


def detach(address: int) -> None:
    assert library.shmdt(address) == 0


def remove_segment(number: int) -> None:
    library.shmctl(number, REMOVE, None)


def segments() -> set[int]:
    """The numbers of all segments there are."""
    lines = Path("/proc/sysvipc/shm").read_text().splitlines()
    place = lines[0].split().index("shmid")
    return {int(line.split()[place]) for line in lines[1:]}
