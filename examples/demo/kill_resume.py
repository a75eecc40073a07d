"""kill -9 in mid-epoch, and a resume in another process: the samples must be exactly those of an unbroken run.

A child takes batches, appends their row ids to a log and now and then saves the loader's state, written to a temporary file and
renamed, so that a kill leaves the old one or the new one. The log may hold more than the last saved state knows: those rows come
again after the resume, as they do in training that goes back to its last checkpoint, and are cut from the log.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from examples.demo.data import FEATURES, ROW_ID

BATCH_ROWS = 4096
SAVE_EVERY_BATCHES = 20
KILL_AT_SHARE = 0.4
STEP_S = 2e-3
"""A pretended training step, so that the kill finds the child in mid-epoch."""
TIMEOUT_S = 120.0
ROOT = Path(__file__).resolve().parents[2]


@dataclasses.dataclass
class Verdict:
    """What was compared: rows before the last saved state, rows after the resume, rows of an unbroken run."""

    rows_before: int
    rows_lost_work: int
    rows_after: int
    rows_unbroken: int
    exact: bool


def prove(table: Path, rows: int, folder: Path) -> Verdict:
    """Runs the unbroken child, the one that is killed and the one that resumes, and compares their row ids in order."""
    for name in ("unbroken", "killed", "resumed"):
        (folder / f"{name}.ids").unlink(missing_ok=True)
        (folder / f"{name}.state").unlink(missing_ok=True)
    finish(start(table, folder, "unbroken", None, 0.0), "unbroken")
    killed = start(table, folder, "killed", None, STEP_S)
    try:
        wait_and_kill(killed, folder / "killed.state", rows)
    finally:
        if killed.poll() is None:
            killed.kill()
        killed.wait()
    saved = json.loads((folder / "killed.state").read_text())
    finish(start(table, folder, "resumed", folder / "killed.state", 0.0), "resumed")
    unbroken, logged, after = (
        np.fromfile(folder / f"{name}.ids", np.int64) for name in ("unbroken", "killed", "resumed")
    )
    before = logged[: saved["rows"]]
    exact = len(before) == saved["rows"] and bool(np.array_equal(np.concatenate([before, after]), unbroken))
    exact = exact and bool(np.array_equal(np.sort(unbroken), np.arange(rows)))
    return Verdict(len(before), max(0, len(logged) - saved["rows"]), len(after), len(unbroken), exact)


def start(table: Path, folder: Path, name: str, state: Path | None, step_s: float) -> subprocess.Popen[bytes]:
    """Starts a child that runs `child` below."""
    arguments = [str(table), str(folder / name), str(state or ""), str(step_s)]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep),
    }
    return subprocess.Popen([sys.executable, "-m", "examples.demo.kill_resume", *arguments], env=environment)


def finish(process: subprocess.Popen[bytes], name: str) -> None:
    """Waits for a child that must end well."""
    try:
        if process.wait(TIMEOUT_S) != 0:
            raise SystemExit(
                f"the {name} run of the kill test ended with status {process.returncode}; its error is above"
            )
    except subprocess.TimeoutExpired:
        raise SystemExit(f"the {name} run of the kill test did not end within {TIMEOUT_S:.0f} s") from None
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def wait_and_kill(process: subprocess.Popen[bytes], state: Path, rows: int) -> None:
    """Sends SIGKILL once a state past `KILL_AT_SHARE` of the epoch is saved."""
    deadline_s = time.monotonic() + TIMEOUT_S
    with tqdm(total=rows, desc="kill -9 in mid-epoch", unit="row", unit_scale=True) as bar:
        while time.monotonic() < deadline_s:
            if process.poll() is not None:
                raise SystemExit(
                    f"the child of the kill test ended by itself with status {process.returncode} before it was killed"
                )
            done = json.loads(state.read_text())["rows"] if state.exists() else 0
            bar.update(done - bar.n)
            if done >= KILL_AT_SHARE * rows:
                os.kill(process.pid, signal.SIGKILL)
                bar.set_postfix_str("killed")
                return
            time.sleep(0.005)
    raise SystemExit(f"the child of the kill test saved no state past {KILL_AT_SHARE:.0%} within {TIMEOUT_S:.0f} s")


def child(table: str, prefix: str, state: str, step_s: float) -> None:
    """One epoch, from the start or from `state`; row ids go to `<prefix>.ids` (i64), states to `<prefix>.state`."""
    import zenith
    from zenith_torch import DataLoader

    dataset = zenith.Parquet(table, stack={"x": list(FEATURES), "row_id": ROW_ID})
    loader = DataLoader(dataset, batch_size=BATCH_ROWS, shuffle=True, num_workers=2, seed=0)
    rows = 0
    if state:
        saved = json.loads(Path(state).read_text())
        loader.load_state_dict(saved["loader"])
        rows = saved["rows"]
    with open(prefix + ".ids", "wb") as log:
        for index, batch in enumerate(loader):
            log.write(batch["row_id"].numpy().tobytes())
            rows += len(batch["row_id"])
            time.sleep(step_s)
            if (index + 1) % SAVE_EVERY_BATCHES == 0:
                log.flush()
                os.fsync(log.fileno())
                save(Path(prefix + ".state"), {"rows": rows, "loader": loader.state_dict()})


def save(path: Path, state: dict[str, Any]) -> None:
    """Writes the state beside its place, and renames it there once it is on the disk."""
    part = path.with_suffix(".state.part")
    with part.open("w") as sink:
        json.dump(state, sink)
        sink.flush()
        os.fsync(sink.fileno())
    os.replace(part, path)


if __name__ == "__main__":
    child(sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4]))
