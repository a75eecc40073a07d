"""Two ranks under zenith-run, of which one is killed in mid-epoch: both start again, and every row comes exactly once.

The ranks train one model on their halves of an epoch. Each writes the ids of its rows down before the step that they are for, and a
step ends on no rank before it has begun on all; so what rank 0 saves after a step, without asking rank 1, is in the logs of both.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from examples.demo.data import FEATURE_COUNT, FEATURES, LABEL, ROW_ID

RANKS = 2
BATCH_ROWS = 4096
SAVE_EVERY_SHARE, KILL_AT_SHARE = 0.04, 0.4
"""Of an epoch's batches."""
TIMEOUT_S = 240.0
ROOT = Path(__file__).resolve().parents[2]


@dataclasses.dataclass
class Verdict:
    """Rows of both ranks before the last saved state and after the restart; whether they are those of an unbroken run."""

    rows_before: int
    rows_lost_work: int
    rows_after: int
    rows_unbroken: int
    restart_s: float
    """From the kill to the first batch of the second attempt."""
    first_loss: float
    last_loss: float
    exact: bool


def launcher() -> str | None:
    """The `zenith-run` of this Python's environment, else that of the PATH."""
    beside = Path(sys.executable).with_name("zenith-run")
    return str(beside) if beside.exists() else shutil.which("zenith-run")


def prove(table: Path, rows: int, folder: Path) -> Verdict:
    """Runs the ranks, and says whether they lost a row."""
    for left in folder.glob("ranks.*"):
        left.unlink()
    print("two ranks under zenith-run; rank 1 is killed in mid-epoch:", flush=True)
    run(table, folder / "ranks")
    return judge(table, rows, folder)


def judge(table: Path, rows: int, folder: Path) -> Verdict:
    """Compares the row ids of both attempts with those that one process reads for each rank without a break."""
    if not (folder / "ranks.killed").exists():
        raise SystemExit(f"the epoch of {rows} rows was over before a rank was killed: give more by --rows")
    saved = json.loads((folder / "ranks.progress").read_text())
    logs = [[ids_of(folder / f"ranks.{attempt}.{rank}.ids") for rank in range(RANKS)] for attempt in (0, 1)]
    before = [log[: saved["rows_before"]] for log in logs[0]]
    unbroken = [expected(table, rank) for rank in range(RANKS)]
    pieces = zip(before, logs[1], unbroken, strict=True)
    exact = all(np.array_equal(np.concatenate([first, rest]), whole) for first, rest, whole in pieces)
    exact = exact and bool(np.array_equal(np.sort(np.concatenate(unbroken)), np.arange(rows)))
    return Verdict(
        rows_before=sum(map(len, before)),
        rows_lost_work=sum(map(len, logs[0])) - sum(map(len, before)),
        rows_after=sum(map(len, logs[1])),
        rows_unbroken=sum(map(len, unbroken)),
        restart_s=saved["first_batch_at"] - float((folder / "ranks.killed").read_text()),
        first_loss=saved["first_loss"],
        last_loss=saved["last_loss"],
        exact=exact,
    )


def run(table: Path, prefix: Path) -> None:
    program = launcher()
    if program is None:
        raise SystemExit("zenith-run is neither beside this Python nor in the PATH: run `make setup`")
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    environment = {**os.environ, "PYTHONPATH": path, "PYTHON_EXEC": sys.executable}
    command = [program, f"--nproc-per-node={RANKS}", "--max-restarts=1", "--shutdown-timeout=5"]
    command += ["-m", "examples.demo.two_ranks", str(table), str(prefix)]
    try:
        code = subprocess.run(command, env=environment, timeout=TIMEOUT_S, check=False).returncode
    except subprocess.TimeoutExpired:
        raise SystemExit(f"the two ranks did not end within {TIMEOUT_S:.0f} s") from None
    if code != 0:
        raise SystemExit(f"the two ranks ended with status {code}; their error is above")


def ids_of(path: Path) -> Any:
    return np.fromfile(path, np.int64)


def loader_of(table: Path, rank: int) -> Any:
    import zenith
    from zenith_torch import DataLoader

    dataset = zenith.Parquet(str(table), stack={"x": list(FEATURES), "y": LABEL, "row_id": ROW_ID})
    shares = {"rank": rank, "world_size": RANKS}
    return DataLoader(dataset, batch_size=BATCH_ROWS, shuffle=True, num_workers=1, seed=0, **shares)


def expected(table: Path, rank: int) -> Any:
    """The ids of a rank's rows in their order."""
    return np.concatenate([batch["row_id"].numpy() for batch in loader_of(table, rank)])


def work(table: Path, prefix: Path) -> None:
    """What each rank does: one epoch, from its start or from what the last attempt has saved."""
    import torch
    import torch.distributed as dist
    from torch.nn.parallel import DistributedDataParallel

    from examples.demo import models

    dist.init_process_group("gloo")
    rank, attempt = dist.get_rank(), int(os.environ["TORCHELASTIC_RESTART_COUNT"])
    torch.manual_seed(0)
    model = DistributedDataParallel(models.classifier(FEATURE_COUNT))
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    loader = loader_of(table, rank)
    checkpoint = prefix.with_suffix(".pt")
    saved: dict[str, Any] = {"batches": 0, "losses": []}
    if checkpoint.exists():
        saved = torch.load(checkpoint)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        loader.load_state_dict(saved["loader"])
    batches, losses = saved["batches"], saved["losses"]
    save_every = max(2, int(SAVE_EVERY_SHARE * len(loader)))
    # Right before the next checkpoint, so that there is work to be done again.
    kill_at = max(2, round(KILL_AT_SHARE * len(loader) / save_every)) * save_every - 1
    first_batch_at = 0.0
    # A rank's share may be a batch longer than the other's, which would wait for it in vain.
    with model.join(), open(f"{prefix}.{attempt}.{rank}.ids", "wb", buffering=0) as log:
        for batch in loader:
            first_batch_at = first_batch_at or time.time()
            log.write(batch["row_id"].numpy().tobytes())
            loss = models.class_loss(model, batch["x"], batch["y"])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            batches += 1
            losses.append(loss.item())
            if rank == 0 and batches % save_every == 0:
                parts = {"model": model, "optimizer": optimizer, "loader": loader}
                states = {name: part.state_dict() for name, part in parts.items()}
                part = prefix.with_suffix(".part")
                torch.save({**states, "batches": batches, "losses": losses}, part)
                os.replace(part, checkpoint)
            if (attempt, rank, batches) == (0, 1, kill_at):
                prefix.with_suffix(".killed").write_text(str(time.time()))
                os.kill(os.getpid(), signal.SIGKILL)
    if rank == 0:
        tail = losses[-max(1, len(losses) // 10) :]
        progress = {"rows_before": saved["batches"] * BATCH_ROWS, "first_batch_at": first_batch_at}
        progress |= {"first_loss": losses[0], "last_loss": sum(tail) / len(tail)}
        prefix.with_suffix(".progress").write_text(json.dumps(progress))
    dist.destroy_process_group()


if __name__ == "__main__":
    work(Path(sys.argv[1]), Path(sys.argv[2]))
