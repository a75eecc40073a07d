"""A rank that says what it was given, and what signals it gets; then it does what its argument says."""

from __future__ import annotations

import os
import signal
import sys
import time

VARIABLES = ["RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT"]
VARIABLES += ["TORCHELASTIC_RESTART_COUNT", "TORCHELASTIC_RUN_ID", "SLURMD_NODENAME"]
rank, what = os.environ["RANK"], sys.argv[1]
is_warned = False


def say(text: str) -> None:
    # In one piece: ranks write to one file.
    os.write(1, f"{text}\n".encode())


def hear(number: int, _: object) -> None:
    global is_warned
    is_warned = True
    say(f"rank {rank} got {signal.Signals(number).name}")


signal.signal(signal.SIGTERM, hear)
signal.signal(signal.SIGUSR1, hear)
say(" ".join(f"{name}={os.environ.get(name, '')}" for name in VARIABLES))
if what == "fail" and rank == "1" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
    sys.exit(7)
if what == "stubborn":
    while True:
        time.sleep(0.05)
if what == "checkpoint" and os.environ.get("SLURM_RESTART_COUNT", "0") == "0":
    while not is_warned:
        time.sleep(0.05)
    say(f"rank {rank} has written a checkpoint")
if what == "die":
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    while True:
        time.sleep(0.05)
