"""The functions of ``torch.distributed.launch``.

``python -m zenith.torchrun.launch`` takes the place of ``python -m torch.distributed.launch``.
Unless ``--use-env`` is given, ranks get ``--local-rank=<n>`` in front of the script's arguments.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence

from zenith.torchrun import child, launching

FLAG = "--legacy-launch"


def main(args: Sequence[str] | None = None) -> None:
    """As `zenith.torchrun.main`."""
    arguments = sys.argv[1:] if args is None else args
    launching.finish(child.run([FLAG, *arguments]), arguments, _parser)


def launch(args: Namespace) -> None:
    """As `zenith.torchrun.run`."""
    if args.no_python and not args.use_env:
        raise ValueError("When using the '--no-python' flag, you must also set the '--use-env' flag.")
    launching.run(args)


def parse_args(args: Sequence[str] | None) -> Namespace:
    """torch's own."""
    return _parser().parse_args(args)


def _parser() -> ArgumentParser:
    parser = launching.get_args_parser()
    parser.add_argument("--use-env", "--use_env", default=False, action="store_true")
    return parser


if __name__ == "__main__":
    child.become([FLAG, *sys.argv[1:]])
