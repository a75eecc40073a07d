"""A rank that makes shared memory as libraries do: rank.py FOLDER MARK. It tells what it has made by a file in FOLDER.

Environment: ``RANK``; ``END`` is what comes then: ``hang`` (SIGTERM changes nothing; rank 1 waits for FOLDER/go and fails),
``torch`` (the same, with two tensors that torch shares), ``succeed``, or ``crash``.
"""

from __future__ import annotations

import json
import mmap
import os
import signal
import sys
import time
from pathlib import Path

from tests.cluster.leftovers.shared import SHARED, attached, segment

folder, mark = Path(sys.argv[1]), sys.argv[2]
attempt, end = os.environ["TORCHELASTIC_RESTART_COUNT"], os.environ["END"]
kept: list[object] = []


def made(name: str, size: int = 8192) -> str:
    """A new file, or one that is there, mapped and closed."""
    with (SHARED / name).open("ab+") as file:
        file.truncate(size)
        kept.append(mmap.mmap(file.fileno(), size))
    return name


def tell(told: dict[str, object]) -> None:
    (folder / "writing").write_text(json.dumps(told))
    (folder / "writing").rename(folder / f"made-{attempt}")


if end in ("hang", "torch"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.environ["RANK"] == "0" and end == "torch":
    import torch

    torch.multiprocessing.set_sharing_strategy("file_system")
    kept += [torch.ones(1000).share_memory_() for _ in range(2)]
    names = [path.name for path in SHARED.glob(f"torch_{os.getpid()}_*")]
    tell({"files": {"ours": names}})
elif os.environ["RANK"] == "0":
    names = [made(name.format(f"{mark}{attempt}")) for name in ("psm_{}", "torch_{}_1_2", "nccl-{}", "sem.mp-{}")]
    kinds = {"ours": names, "other_names": [made(f"checkpoint_{mark}{attempt}")]}
    kinds["shared"] = [made(f"psm_{mark}{attempt}_shared")]
    kinds["older"] = [made(f"psm_{mark}_older")] if (SHARED / f"psm_{mark}_older").exists() else []
    segments = [segment(), segment()]
    attached(segments[1])
    there = sorted(path.name for path in SHARED.glob(f"*{mark}*"))
    tell({"pid": os.getpid(), "files": kinds, "segments": segments, "there": there})
    if end == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
else:
    while not ((folder / "go").exists() and (folder / f"made-{attempt}").exists()):
        time.sleep(0.01)
    sys.exit(3)
while end in ("hang", "torch"):
    time.sleep(0.01)
