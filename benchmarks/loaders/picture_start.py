"""How soon comes the first batch of pictures from tar shards, with an index to be made and with one that is there?"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

from benchmarks.loaders import photographs
from benchmarks.loaders.contender import all_contenders
from benchmarks.loaders.data import Files
from benchmarks.loaders.special import verdict

OURS = "zenith-images-crop-w2"
PEERS = ("torch-pil-images-crop-w2", "webdataset-images-crop-w2", "dali-images-crop-t2", "tensorflow-images-crop-t2")
COLD_MS_MAX, WARM_MS_MAX = 500.0, 50.0
RUNS = 3


def measure(files: Files, quick: bool) -> dict[str, Any]:
    """Three fresh processes per row (one if quick); medians. The files are in the page cache in all of them."""
    from benchmarks.loaders.process import ChildError, run_child

    runs = 1 if quick else RUNS
    result: dict[str, Any] = {
        "title": "First batch of 128 random crops from tar shards",
        "columns": ["loader", "first batch ms", "bar ms", "", "of it opening ms"],
        "rows": [],
    }
    if not photographs.note_of(files).exists():
        return result | {"error": "the pictures could not be written; the rows without a figure say why"}
    photographs.of(files).warm()
    contenders = all_contenders()
    problems = []

    def add(title: str, name: str, bar_ms: float | None, folders: list[str]) -> None:
        try:
            job = {"mode": "picture_start", "who": name, "files": files.to_json()}
            found = [run_child(job | {"cache": folder}) for folder in folders]
        except ChildError as error:
            problems.append(f"{name}: {error}")
            return
        first_ms, open_ms = (statistics.median(run[key] for run in found) for key in ("first_batch_ms", "open_ms"))
        result["rows"].append([title, first_ms, bar_ms, verdict(first_ms, bar_ms), open_ms])

    with tempfile.TemporaryDirectory() as folder:
        caches = [os.path.join(folder, str(run)) for run in range(runs)]
        if why := contenders[OURS].missing():
            problems.append(f"{OURS}: {why}")
        else:
            add("Zenith, no index yet", OURS, COLD_MS_MAX, caches)
            add("Zenith, with its index", OURS, WARM_MS_MAX, caches)
        for peer in PEERS:
            if why := contenders[peer].missing():
                problems.append(f"{peer}: {why}")
            else:
                add(contenders[peer].title, peer, None, caches)
    return result | ({"error": "; ".join(problems)} if problems else {})


def child(files: Files, job: dict[str, Any], wait_for_go: Callable[[], None]) -> dict[str, float]:
    """Milliseconds to the first batch, imports done; indexes are kept in the job's folder and nowhere else."""
    os.environ["ZENITH_CACHE_DIR"] = job["cache"]
    contender = all_contenders()[job["who"]]
    contender.import_all()
    if contender.prepare is not None:
        contender.prepare(files)
    wait_for_go()
    started_s = time.perf_counter()
    feed = contender.open(files)
    opened_s = time.perf_counter()
    next(iter(feed.epoch(0)))
    return {"first_batch_ms": (time.perf_counter() - started_s) * 1e3, "open_ms": (opened_s - started_s) * 1e3}
