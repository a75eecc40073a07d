"""``python -m zenith.torchrun.patched COMMAND ...``: a program under `patch`.

COMMAND is that of an installed package (``accelerate launch train.py``), a file (``launch_all.py``) or ``-m module``.
"""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any

from zenith.torchrun.patching import patch

USAGE = "usage: python -m zenith.torchrun.patched (COMMAND | FILE.py | -m MODULE) [ARGUMENTS]..."


def main() -> None:
    """Runs what the command line names, with the arguments that follow."""
    if len(sys.argv) < 2 or sys.argv[1:] == ["-m"]:
        raise SystemExit(USAGE)
    patch()
    del sys.argv[0]
    if sys.argv[0] == "-m":
        del sys.argv[0]
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    elif os.path.isfile(sys.argv[0]):
        # As Python does for a file, in place of the folder that `-m` has put there.
        sys.path[0] = os.path.dirname(os.path.abspath(sys.argv[0]))
        runpy.run_path(sys.argv[0], run_name="__main__")
    else:
        sys.exit(_command(sys.argv[0])())


def _command(name: str) -> Callable[[], Any]:
    """The function that a package has given this name."""
    found = entry_points(group="console_scripts", name=name)
    if not found:
        raise SystemExit(f"{name} is no file, and no installed package has a command of this name. {USAGE}")
    function: Callable[[], Any] = next(iter(found)).load()
    return function


if __name__ == "__main__":
    main()
