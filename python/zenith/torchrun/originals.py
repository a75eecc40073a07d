"""torch's own launcher, for what it alone can do; also while `patch` has put ours in its place."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable
from typing import Any

_replaced: Callable[..., Any] | None = None


def run(args: Namespace) -> None:
    """torch's ``run``, in this process."""
    original()(args)


def original() -> Callable[..., Any]:
    """``torch.distributed.run.run``, wherever it is."""
    import torch.distributed.run

    return _replaced or torch.distributed.run.run


def keep(function: Callable[..., Any] | None) -> None:
    """Remembers what is about to be replaced; `None` when it is in its place again."""
    global _replaced
    _replaced = function


def say(what: str) -> None:
    """As the launcher does."""
    print(f"zenith-run: {what}", file=sys.stderr, flush=True)
