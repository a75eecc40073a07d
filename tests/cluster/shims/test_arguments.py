"""Parsed arguments become a command line that is parsed to the same."""

from __future__ import annotations

import os
import random
import subprocess
from argparse import Namespace
from typing import Any
from unittest import mock

import pytest
from torch.distributed.launch import parse_args as legacy_parse_args
from torch.distributed.run import get_args_parser, parse_args
from zenith.torchrun.arguments import LISTS, SCRIPT, SWITCHES, VALUES, CannotSayError, command_line

CHOICES: dict[str, list[Any]] = {
    "start_method": ["spawn", "fork"],
    "numa_binding": ["node", "exclusive", None],
    "monitor_interval": [0.1, 3.0],
    **{name: [0, 3, 12] for name in ("max_restarts", "node_rank")},
    **{name: [None, 0, 7] for name in ("master_port", "shutdown_timeout")},
    **{name: [None, "a b", "", "-x", "x=y"] for name in ("log_dir", "local_addr", "logs_specs")},
    **{name: [[], ["a"], ["a,b", "c,", "d"], ["", "x"]] for name in LISTS},
    **{name: [False, True] for name in SWITCHES},
    "training_script": ["train.py", "-x", "--role"],
    "training_script_args": [[], ["--", "x"], ["--", "--", "-m", "a b"], ["$local_rank", ""]],
}


def test_every_argument_of_torchs_parser_is_known() -> None:
    theirs = {action.dest for action in get_args_parser()._actions} - {"help"}
    assert theirs == {*VALUES, *LISTS, *SWITCHES, *SCRIPT}


@pytest.mark.parametrize("seed", range(5))
def test_what_is_said_is_what_was_given(seed: int) -> None:
    draw = random.Random(seed)
    for _ in range(40):
        given = Namespace(
            **{
                name: draw.choice(CHOICES.get(name, ["", "x", "a=b,c=d", "-1"]))
                for name in (*VALUES, *LISTS, *SWITCHES, *SCRIPT)
            }
        )
        # What the environment says as well must not count: somebody has parsed already, and may have changed it since.
        variables = {f"PET_{name.upper()}": draw.choice(["1", "0"]) for name in SWITCHES}
        variables |= {
            f"PET_{name.upper()}": "77" for name in ("role", "master_port", "log_dir", *LISTS) if draw.random() < 0.5
        }
        with mock.patch.dict(os.environ, variables):
            words, environment = command_line(given)
        with mock.patch.dict(os.environ, environment, clear=True):
            assert vars(parse_args(words)) == vars(given)


def test_the_launcher_knows_every_word(zenith_run: str) -> None:
    given = parse_args(["--role=a", "--tee=3", "--shutdown-timeout=3", "--master-port=1", "s.py", "--", "--", "--x"])
    given.duplicate_stdout_filters = ["a,b", "c"]
    words, _ = command_line(given)
    done = subprocess.run([zenith_run, "--dry-run", *words], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "s.py -- --x\n" in done.stdout


def test_the_legacy_launcher_tells_ranks_by_an_argument() -> None:
    assert command_line(legacy_parse_args(["s.py", "--x"]))[0][-4:] == [
        "--",
        "s.py",
        "--local-rank=${local_rank}",
        "--x",
    ]
    assert command_line(legacy_parse_args(["--use_env", "s.py", "--x"]))[0][-3:] == ["--", "s.py", "--x"]


def test_what_a_later_torch_adds_is_not_lost() -> None:
    given = parse_args(["s.py"])
    given.of_nobody = "a parser that Accelerate has added to"
    command_line(given)
    parser = get_args_parser()
    parser.add_argument("--later", default="no")
    with mock.patch("torch.distributed.run.get_args_parser", return_value=parser):
        command_line(parser.parse_args(["s.py"]))
        with pytest.raises(CannotSayError, match="--later is not known"):
            command_line(parser.parse_args(["--later=yes", "s.py"]))
    given.duplicate_stdout_filters = [",b", ",b"]
    with pytest.raises(CannotSayError, match="begins with a comma"):
        command_line(given)
