"""`main` and `run` of torch's launcher, done by `zenith-run`."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from zenith.torchrun import child, originals
from zenith.torchrun.arguments import CannotSayError, command_line
from zenith.torchrun.failures import raise_unless_succeeded

if TYPE_CHECKING:
    from torch.distributed.launcher.api import LaunchConfig


def main(args: Sequence[str] | None = None) -> None:
    """What ``torchrun`` does with a command line: of this process if none is given.

    Flags of `zenith-run` that torchrun does not have are understood as well.

    Raises:
        ChildFailedError: ranks of this node failed; ``failures`` has them by their global ranks, the root cause first.
        SignalException: a signal to this process (or to the launcher) stopped the run.
        RendezvousError: another node ended the run, or too few came.
        ValueError, AssertionError, RuntimeError, OSError: the run cannot be as it was asked for.
        SystemExit: as argparse's, for ``--help`` and for a command line that is wrong.

    Example:
        >>> zenith.torchrun.main(["--nproc-per-node=8", "train.py", "--lr=0.1"])
    """
    arguments = sys.argv[1:] if args is None else args
    ended = child.run(arguments)
    if not ended.is_success:
        from torch.distributed.elastic.multiprocessing.errors import record

        # As torch's: what is raised is left in $TORCHELASTIC_ERROR_FILE too, or the root cause's own file in its place.
        record(finish)(ended, arguments, get_args_parser)


def run(args: Namespace) -> None:
    """What ``torch.distributed.run.run`` does with parsed arguments, of torch's parser or filled by hand as Accelerate does.

    Raises:
        As `main`, but for SystemExit.
    """
    try:
        arguments, environment = command_line(args)
    except CannotSayError as error:
        originals.say(f"{error}: left to torch.distributed.run")
        originals.run(args)
        return
    ended = child.run(arguments, environment)
    if ended.is_pythons:
        originals.run(args)
    else:
        raise_unless_succeeded(ended)


def parse_args(args: Sequence[str] | None) -> Namespace:
    """torch's own; a command line for `main` needs no parsing."""
    return get_args_parser().parse_args(args)


def get_args_parser() -> ArgumentParser:
    """torch's own."""
    from torch.distributed.run import get_args_parser

    parser: ArgumentParser = get_args_parser()
    return parser


def config_from_args(args: Namespace) -> tuple[LaunchConfig, Callable[..., Any] | str, list[str]]:
    """torch's own: for `elastic_launch`, which runs functions, in Python."""
    from torch.distributed.run import config_from_args

    config: tuple[LaunchConfig, Callable[..., Any] | str, list[str]] = config_from_args(args)
    return config


def finish(ended: child.Ended, arguments: Sequence[str], parser: Callable[[], ArgumentParser]) -> None:
    """What is left to do after a launcher: to raise what went wrong, or to let torch's do what it could not."""
    if ended.is_pythons:
        originals.run(parser().parse_args(arguments))
    else:
        raise_unless_succeeded(ended)
