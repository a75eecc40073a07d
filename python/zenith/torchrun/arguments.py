"""Parsed arguments as a command line again."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Sequence

# Names of torch 2.13's arguments; the tests hold them against its parser. Defaults are in no place but the parser's.
SWITCHES = ("standalone", "module", "no_python", "run_path", "virtual_local_rank")
LISTS = ("duplicate_stdout_filters", "duplicate_stderr_filters")
VALUES = (
    "nnodes",
    "nproc_per_node",
    "rdzv_backend",
    "rdzv_endpoint",
    "rdzv_id",
    "rdzv_conf",
    "max_restarts",
    "monitor_interval",
    "start_method",
    "event_log_handler",
    "role",
    "log_dir",
    "redirects",
    "tee",
    "local_ranks_filter",
    "node_rank",
    "master_addr",
    "master_port",
    "local_addr",
    "logs_specs",
    "numa_binding",
    "signals_to_handle",
    "shutdown_timeout",
)
SCRIPT = ("training_script", "training_script_args")


class CannotSayError(Exception):
    """The command line has no words for it."""


def command_line(args: Namespace) -> tuple[list[str], dict[str, str]]:
    """Arguments for `zenith-run`, and the environment that they are meant for.

    Of every argument the value in `args` counts, whatever ``PET_*`` says.
    """
    given = vars(args)
    environment = dict(os.environ)
    words = []
    for name in (*VALUES, *LISTS, *SWITCHES):
        flag, value = "--" + name.replace("_", "-"), given.get(name)
        if value is None or value is False or (name in LISTS and not value):
            environment.pop(f"PET_{name.upper()}", None)
        elif name in SWITCHES:
            words.append(flag)
        else:
            words.append(f"{flag}={joined(flag, value) if name in LISTS else value}")
    refuse_unknown(given)
    # As torch.distributed.launch has it, where ranks are told by an argument (T-58).
    legacy = [] if given.get("use_env", True) else ["--local-rank=${local_rank}"]
    # Behind `--` all is the script's, other `--` too.
    return [*words, "--", args.training_script, *legacy, *args.training_script_args], environment


def joined(flag: str, texts: Sequence[str]) -> str:
    """With commas between them, those within doubled."""
    for text in texts[1:]:
        # Read from the left, three commas are one that ends a text.
        if text.startswith(","):
            raise CannotSayError(f"{flag}: {text!r} begins with a comma")
    return ",".join(text.replace(",", ",,") for text in texts)


def refuse_unknown(given: dict[str, object]) -> None:
    """An argument that this version of torch has, ours has not, and somebody has set."""
    known = {*VALUES, *LISTS, *SWITCHES, *SCRIPT, "use_env"}
    if given.keys() <= known:
        return
    from zenith.torchrun.launching import get_args_parser

    parser = get_args_parser()
    theirs = {action.dest for action in parser._actions} - known - {"help"}
    for name in sorted(theirs & given.keys()):
        if given[name] != parser.get_default(name):
            raise CannotSayError(f"--{name.replace('_', '-')} is not known here")
