"""Why a batch is late, in words: which worker has it, which sample that is at, and where."""

from __future__ import annotations

from typing import Any

from zenith.errors import StallError

from zenith_torch.process.watch import IDLE, NOT_READY, STARTING, Watch, state_of
from zenith_torch.samples import AT_ONCE, COLLATING


def stall_of(
    seconds: float, worker: int, pid: int, watch: Watch, awaited: int | None, drawn: dict[int, Any]
) -> StallError:
    """The error for a batch that is late.

    Args:
        seconds: how long it was waited for.
        worker: the one that has it.
        awaited: its task; ``None``: no batch, but the end of what the worker was given in the last epoch.
        drawn: what the tasks under way ask for: index batches.
    """
    task, place = watch.note()
    indices = drawn.get(task)
    stack = watch.stack(pid)
    lines = [f"no batch for {seconds:g} s: worker {worker} (pid {pid}) {_doing(watch, pid, awaited, indices)}"]
    if stack is not None:
        lines.append(f"It is here:\n{stack}\n")
    lines.append("The next next() waits for the batch again. Where samples may take so long, raise stall_timeout.")
    error = StallError(" ".join(lines))
    error.worker, error.pid, error.stack = worker, pid, stack
    error.batch = drawn.get(task if awaited is None or indices is not None else awaited)
    error.index = _sample_at(indices, place)
    return error


def _doing(watch: Watch, pid: int, awaited: int | None, indices: object) -> str:
    """What a worker does, in words that follow its name."""
    state, (task, place) = state_of(pid), watch.note()
    if state in "Tt":
        return f"is stopped (SIGSTOP, or a debugger); `kill -CONT {pid}` lets it go on. " + _at(task, place, indices)
    if state in "ZX":
        return "is dead"
    if task == NOT_READY:
        return "is still being started: Python, the modules, the dataset"
    if task == STARTING:
        return "has begun no batch: it is in worker_init_fn, or in iter(dataset)"
    if task == IDLE:
        return "waits for a task"
    kernel = " It is in a wait of the kernel that no signal ends (a disk, a mount)." if state == "D" else ""
    earlier = "" if awaited in (None, task) else " This is not the batch that is awaited, which comes after it."
    return _at(task, place, indices) + kernel + earlier


def _at(task: int, place: int, indices: object) -> str:
    if task in (NOT_READY, STARTING, IDLE):
        return ""
    if place == AT_ONCE:
        return f"reads the indices {_shortened(indices)} by one call of __getitems__."
    if place == COLLATING:
        return f"has read the samples {_shortened(indices)}, and collates or sends them."
    sample = _sample_at(indices, place)
    which = f"sample {place} of its batch" if sample is None else f"index {sample!r}"
    return f"is at {which}" + ("." if sample is None else f", in the batch {_shortened(indices)}.")


def _sample_at(indices: object, place: int) -> object:
    """The index at a place of an index batch, where both are known."""
    if isinstance(indices, (list, tuple)) and 0 <= place < len(indices):
        return indices[place]
    return None


_SHOWN_MAX = 200


def _shortened(indices: object) -> str:
    """An index batch as text of bounded length."""
    text = repr(indices)
    return text if len(text) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]}..."
