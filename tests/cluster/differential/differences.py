"""Where zenith-run is meant to differ from torchrun, and by which statement of the contract. An entry that nothing needs fails."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

UNSAID: Any = object()


@dataclass(frozen=True)
class Difference:
    """In `field` of these cases; `ours` is what zenith-run has there, where that is the same for all of them."""

    statement: str
    why: str
    field: str
    cases: tuple[str, ...]
    ours: Any = UNSAID


DIFFERENCES = [
    Difference(
        "T-33",
        "One node meets on the loopback device, where the store listens and nowhere else.",
        "environment MASTER_ADDR",
        ("env-plain", "env-c10d"),
        {"0.0": "127.0.0.1"},
    ),
    Difference(
        "T-33",
        "The same with two ranks.",
        "environment MASTER_ADDR",
        ("env-standalone-two",),
        {"0.0": "127.0.0.1", "0.1": "127.0.0.1"},
    ),
    Difference(
        "T-5",
        "torchrun says no more than `AssertionError`.",
        "error",
        ("parse-nproc-zero",),
        "AssertionError: nproc_per_node must be between 1 and 4096, got 0",
    ),
    Difference(
        "T-61",
        "torchrun makes a log folder before it has checked everything, and leaves it.",
        "files",
        (
            "parse-negative-shutdown",
            "parse-nproc-zero",
            "parse-endpoint-without-port",
            "parse-endpoint-port",
            "parse-endpoint-host",
            "parse-module-without-python",
            "env-virtual-out-of-range",
        ),
        [],
    ),
    Difference(
        "TW-12",
        "A line that is written in two parts has one prefix.",
        "stdout",
        ("logs-broken-line",),
        ["[default0]:out: end", "[default0]:out: one two"],
    ),
    Difference(
        "T-50",
        "The root cause's last lines follow the block where its stderr went to a file.",
        "stderr",
        ("fail-stderr-in-a-file",),
        ["err: why"],
    ),
    Difference(
        "T-41",
        "The warning about an unknown signal makes torchrun import its compiler, which leaves a variable.",
        "environment TORCHINDUCTOR_CACHE_DIR",
        ("signal-unknown",),
        None,
    ),
    Difference("T-41", "The same, and a folder.", "files", ("signal-unknown",)),
    Difference("T-13", "The error names the rank beside the program.", "error", ("fail-program-is-missing",)),
]
