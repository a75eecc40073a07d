"""`zenith-run` as a child process: where it lies, the signals that reach it, what it tells of its end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, NoReturn

NAME = "zenith-run"
VARIABLE = "ZENITH_RUN"

# Each reaches the launcher, which knows whether it stops the run, is for the ranks, or means nothing to it.
STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
OTHERS = (signal.SIGUSR1, signal.SIGUSR2)


@dataclass(frozen=True)
class Ended:
    """The end of a launcher. `code` is negative for a signal; `outcome` is empty if it told nothing."""

    pid: int
    code: int
    outcome: dict[str, Any]

    @property
    def kind(self) -> str:
        return str(self.outcome.get("outcome", ""))

    @property
    def is_success(self) -> bool:
        return self.kind == "succeeded"

    @property
    def is_pythons(self) -> bool:
        """It has done nothing, as only torch's launcher can do what is asked for."""
        return self.kind == "python"


def run(arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> Ended:
    """Waits for a launcher with these arguments. While it runs, signals to this process are passed on to it; if this process dies,
    so does the run."""
    with tempfile.TemporaryDirectory(prefix="zenith-run-") as folder, Relay() as relay:
        file = Path(folder) / "outcome.json"
        own = [f"--with-parent={os.getpid()}", f"--outcome-file={file}"]
        # In a session of its own: Ctrl-C would reach it from the terminal and from here, and a second one kills.
        process = subprocess.Popen([*program(), *own, *arguments], env=environment, start_new_session=True)
        try:
            relay.to(process)
            code = process.wait()
        except BaseException:
            process.terminate()
            process.wait()
            raise
        text = file.read_text() if file.exists() else ""
        return Ended(process.pid, code, json.loads(text) if text else {})


def become(arguments: Sequence[str]) -> NoReturn:
    """This process goes on as a launcher."""
    command = [*program(), *arguments]
    os.execv(command[0], command)


def program() -> list[str]:
    """The launcher, and this Python for its ranks."""
    return [where(), *([f"--python={sys.executable}"] if sys.executable else [])]


def where() -> str:
    """The launcher of ``$ZENITH_RUN``, or of the installation that this module is of, or in ``PATH``."""
    if named := os.environ.get(VARIABLE):
        return named
    scripts = [sysconfig.get_path("scripts"), sysconfig.get_path("scripts", f"{os.name}_user")]
    # The last is that of `pip install --target`.
    folders = [*scripts, os.path.dirname(sys.executable), str(Path(__file__).parents[2] / "bin")]
    for folder in folders:
        if os.access(path := os.path.join(folder, NAME), os.X_OK):
            return path
    if found := shutil.which(NAME):
        return found
    raise FileNotFoundError(
        f"{NAME} is in none of {', '.join(dict.fromkeys(folders))} and not in PATH. "
        f"Install zenith-loader again, or name it by ${VARIABLE}"
    )


class Relay:
    """Passes signals on while it is a context. In other threads than the main one Python takes no signals, and it does nothing."""

    def __init__(self) -> None:
        self._child: int | None = None
        self._waiting: list[int] = []
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Relay:
        if threading.current_thread() is threading.main_thread():
            for number in (*STOPS, *OTHERS, signal.SIGTSTP):
                before = signal.getsignal(number)
                # A hangup that is ignored (nohup) stays ignored, and what this program has for its own use is left to it.
                is_free = before == signal.SIG_DFL or (number in STOPS and before not in (None, signal.SIG_IGN))
                if is_free or (before == signal.SIG_IGN and number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)):
                    self._before[number] = before
                    signal.signal(number, self._suspend if number == signal.SIGTSTP else self._take)
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, traceback: TracebackType | None) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)
        if self._child is not None:
            os.close(self._child)
            self._child = None

    def to(self, process: subprocess.Popen[bytes]) -> None:
        """What came before the process was there reaches it now."""
        # By descriptor: the number may be another's once the process has been waited for.
        self._child = os.pidfd_open(process.pid)
        self._pass_on()

    def _take(self, number: int, frame: FrameType | None) -> None:
        self._waiting.append(number)
        self._pass_on()

    def _suspend(self, number: int, frame: FrameType | None) -> None:
        self._take(number, frame)
        os.kill(os.getpid(), signal.SIGSTOP)
        self._take(signal.SIGCONT, frame)

    def _pass_on(self) -> None:
        while self._child is not None and self._waiting:
            # Another signal may interrupt this one here, and be quicker.
            with suppress(ProcessLookupError, IndexError):
                signal.pidfd_send_signal(self._child, self._waiting.pop(0))
