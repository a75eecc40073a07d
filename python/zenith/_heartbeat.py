"""Signs of life for ``zenith-run --hang-timeout``."""

from __future__ import annotations

import math
import os
import signal
from time import monotonic

# A loop of microseconds leaves no more signs than this; rust/zenith-cluster/src/watch/hang.rs allows for it.
_EVERY_S = 0.01
# By which zenith-run asks for stacks. Linux has given this signal up, so nobody else takes it.
_STACKS_SIGNAL = 16
_VARIABLE = "ZENITH_HEARTBEAT_FILE"

_next = -math.inf
_file = -1
_count = 0
_tail = b""
_is_warned = False


def heartbeat() -> None:
    """Tells ``zenith-run --hang-timeout`` that this rank makes progress; to be called once a step, or more often.

    A rank that has called it once is taken for hung when it does not call it for that long, whatever it prints. Without
    ``zenith-run --hang-timeout`` it does nothing. It costs a fraction of a microsecond, may be called from any thread, and never
    raises. The first call also registers a handler by which a rank that hangs writes its Python stacks, unless the
    signal, 16 (SIGSTKFLT), is in use.
    """
    global _next
    now = monotonic()
    if now < _next:
        return
    _next = now + _EVERY_S
    _beat()


def _beat() -> None:
    global _next, _count
    if _file < 0 and not _open():
        _next = math.inf
        return
    _count += 1
    try:
        os.pwrite(_file, b"%d%s" % (_count, _tail), 0)
    except OSError as error:
        # The next one may get through; said once.
        if not _is_warned:
            _warn(f"cannot write ${_VARIABLE}: {error}. Until it can, zenith-run sees no heartbeat of this rank")


def _open() -> bool:
    """Whether there is somebody to tell."""
    global _file, _tail
    path = os.environ.get(_VARIABLE)
    if not path:
        return False
    try:
        _file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        _warn(f"cannot open ${_VARIABLE}: {error}. zenith-run goes by the output of this rank")
        return False
    _tail = b" %d %d\n" % (os.getpid(), _register(f"{path}.stacks"))
    return True


def _register(path: str) -> int:
    """The signal that makes this process write its stacks to a file; 0 if there is none."""
    import faulthandler

    if signal.getsignal(_STACKS_SIGNAL) is not signal.SIG_DFL:
        return 0
    try:
        # faulthandler keeps the file open.
        faulthandler.register(_STACKS_SIGNAL, file=open(path, "ab", buffering=0), all_threads=True)  # noqa: SIM115
    except (OSError, RuntimeError, ValueError):
        return 0
    return _STACKS_SIGNAL


def _warn(what: str) -> None:
    global _is_warned
    _is_warned = True
    import warnings

    # Where warnings are errors, one would end a training that is well.
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        warnings.warn(f"zenith.heartbeat() {what}", RuntimeWarning, stacklevel=4)
