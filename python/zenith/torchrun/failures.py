"""The end of a launcher as the exception that torch's launcher raises."""

from __future__ import annotations

import builtins
import signal
from typing import TYPE_CHECKING, Any

from zenith.torchrun.child import Ended

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure


def raise_unless_succeeded(ended: Ended) -> None:
    """Raises what torch's launcher would raise at this end."""
    outcome = ended.outcome
    if ended.kind == "succeeded":
        return
    if ended.kind == "failed":
        raise child_failed(outcome)
    if ended.kind == "stopped":
        from torch.distributed.elastic.multiprocessing.api import SignalException

        number = signal.Signals(outcome["signal"])
        raise SignalException(f"Process {ended.pid} got signal: {number.value}", sigval=number)
    if ended.kind == "error":
        raise error(outcome["kind"], outcome["message"])
    if ended.code == -signal.SIGINT:
        raise KeyboardInterrupt
    if ended.code < 0:
        name = signal.Signals(-ended.code).name
        raise RuntimeError(f"zenith-run (process {ended.pid}) was ended by {name}; nothing that it had started is left")
    # It has said why on stderr, as argparse does: a command line that is wrong, or a text that was asked for.
    raise SystemExit(ended.code)


def child_failed(outcome: dict[str, Any]) -> ChildFailedError:
    """torch's error with the failed ranks; the root cause is the first, and the one that ended first."""
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    failures = {failed["rank"]: failure(failed) for failed in outcome["failures"]}
    root, *others = failures.values()
    # torch takes the smallest second for the cause; an error file of another rank may be older than the first end.
    for other in others:
        other.timestamp = max(other.timestamp, root.timestamp)
    return ChildFailedError(outcome["entry"], failures)


def failure(failed: dict[str, Any]) -> ProcessFailure:
    """torch reads the error file itself, if it can."""
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

    ids = (failed["local_rank"], failed["pid"], failed["exit_code"])
    try:
        made = ProcessFailure(*ids, failed["error_file"] or "")
    except Exception:  # Whatever a file that is not as @record writes it makes of that.
        made = ProcessFailure(*ids, "")
        made.message = failed["message"]
    made.timestamp = failed["timestamp"]
    return made


def error(kind: str, message: str) -> Exception:
    """An exception of this name, Python's or torch's."""
    if kind == "RendezvousError":
        from torch.distributed.elastic.rendezvous import RendezvousError

        return RendezvousError(message)
    named = getattr(builtins, kind, None)
    return named(message) if isinstance(named, type) and issubclass(named, Exception) else RuntimeError(message)
