"""The functions of ``torch.distributed.run``, over `zenith-run`: for programs that call torch's launcher by its functions.

`main` and `run` start the native launcher as a child process and wait for it. What they raise is what torch's raise, in torch's
own classes: ``ChildFailedError`` with the failed ranks, ``SignalException``, ``ValueError`` and so on. What only Python's launcher
can do (``--run-path``, event handlers, other back ends) is left to torch's, in this process. `patch` lets libraries that call
torch's use these. ``python -m zenith.torchrun`` is `zenith-run` with this Python for the ranks.

torch is imported when one of its classes is needed: not by a run that `main` starts and that succeeds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zenith.torchrun.launching import config_from_args, get_args_parser, main, parse_args, run
from zenith.torchrun.patching import Patch, patch

if TYPE_CHECKING:
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

__all__ = [
    "LaunchConfig",
    "Patch",
    "config_from_args",
    "elastic_launch",
    "get_args_parser",
    "main",
    "parse_args",
    "patch",
    "run",
]


def __getattr__(name: str) -> Any:
    # Functions as entry points have no native path: these two are torch's own.
    if name in ("LaunchConfig", "elastic_launch"):
        from torch.distributed.launcher import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
