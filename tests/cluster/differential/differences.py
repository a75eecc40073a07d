"""Where zenith-run is meant to differ from torchrun, and by which statement of the contract. An entry that nothing needs fails."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

UNSAID: Any = object()
COORDINATOR = "127.0.0.1:<FREE PORT>"


@dataclass(frozen=True)
class Difference:
    """In `field` of these cases; `ours` is what zenith-run has there, where that is the same for all of them."""

    statement: str
    why: str
    field: str
    cases: tuple[str, ...]
    ours: Any = UNSAID


def listed(text: str) -> tuple[str, ...]:
    """Names that stand between spaces."""
    return tuple(text.split())


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
    Difference(
        "T-19",
        "JAX's processes meet at a port of their own, at the master's address.",
        "environment JAX_COORDINATOR_ADDRESS",
        listed("""
            env-plain env-process env-cores env-auto env-threads-of-one env-abbreviations env-command-line-wins
            env-boolean-off env-static-endpoint env-c10d env-rank-0-store env-empty-role env-signals env-nccl
            env-no-log-files env-conf-is-ignored argv-interpreter argv-module argv-dashes-before
            argv-dashes-after argv-templated-script argv-space-is-a-value logs-inherited logs-redirect-stdout
            logs-tee-role logs-tee-empty-role logs-prefix-template logs-duplicates-without-tee logs-no-files
            logs-broken-line logs-empty-log-dir logs-run-id fail-code fail-killed fail-recorded
            fail-recorded-copied fail-recorded-text fail-entry-of-interpreter fail-without-files
            fail-stderr-in-a-file signal-int signal-hup signal-usr1 signal-stubborn signal-tee
            signal-failing-rank signal-unknown signal-not-handled
        """),
        {"0.0": COORDINATOR},
    ),
    Difference(
        "T-19",
        "The same with two ranks.",
        "environment JAX_COORDINATOR_ADDRESS",
        listed("""
            env-standalone-two env-threads env-underscores env-defaults-of-environment env-static
            env-virtual-local-rank argv-templates logs-redirect-both logs-redirect-map logs-tee-both
            logs-tee-map logs-filter logs-filter-tee logs-filter-redirect logs-duplicates fail-one-of-two
            fail-other-has-ended fail-survivor-ends-well signal-term signal-quit signal-to-static
        """),
        {"0.0": COORDINATOR, "0.1": COORDINATOR},
    ),
    Difference(
        "T-19",
        "The same with a master that has a name.",
        "environment JAX_COORDINATOR_ADDRESS",
        listed("""
            env-static-address
        """),
        {"0.0": "localhost:<FREE PORT>"},
    ),
    Difference(
        "T-19",
        "The same in two attempts.",
        "environment JAX_COORDINATOR_ADDRESS",
        listed("""
            restart-once restart-used-up restart-of-static restart-tee restart-of-killed restart-of-recorded
            restart-by-environment restart-of-rank-0-store
        """),
        {"0.0": COORDINATOR, "1.0": COORDINATOR},
    ),
    Difference(
        "T-19",
        "The same in two attempts of two ranks.",
        "environment JAX_COORDINATOR_ADDRESS",
        listed("""
            restart-both restart-with-filter restart-past-a-stubborn-rank
        """),
        {"0.0": COORDINATOR, "0.1": COORDINATOR, "1.0": COORDINATOR, "1.1": COORDINATOR},
    ),
]
