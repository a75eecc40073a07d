"""Libraries that call torch's launcher use ours while it is patched, and torch's again afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from pathlib import Path
from unittest import mock

import pytest
import torch.distributed.launch
import torch.distributed.run
import zenith.torchrun
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from .conftest import SECONDS

TORCHS = torch.distributed.run.run
FAILS = ["--log-dir=logs", "--no-python", "bash", "-c", "exit 3"]


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_torchs_own_functions_launch_by_ours() -> None:
    copied = types.ModuleType("somebody")
    copied.run = TORCHS  # type: ignore[attr-defined]
    with mock.patch.dict(sys.modules, {"somebody": copied}):
        with zenith.torchrun.patch():
            assert torch.distributed.run.run is torch.distributed.launch.run is copied.run is zenith.torchrun.run
            with mock.patch("torch.distributed.run.elastic_launch", side_effect=AssertionError("torch's own was used")):
                torch.distributed.run.main(["--log-dir=logs", "--no-python", "true"])
                for main in (torch.distributed.run.main, torch.distributed.launch.main.__wrapped__):
                    with pytest.raises(ChildFailedError) as caught:
                        main(["--use-env"] * (main is not torch.distributed.run.main) + FAILS)
                    assert caught.value.failures[0].exitcode == 3
        assert torch.distributed.run.run is torch.distributed.launch.run is copied.run is TORCHS


def test_patches_may_overlap() -> None:
    first, second = zenith.torchrun.patch(), zenith.torchrun.patch()
    first.undo()
    first.undo()
    assert torch.distributed.run.run is zenith.torchrun.run
    second.undo()
    assert torch.distributed.run.run is TORCHS


def test_what_only_torch_can_do_is_torchs_while_patched() -> None:
    with zenith.torchrun.patch(), mock.patch("torch.distributed.run.elastic_launch") as launched:
        torch.distributed.run.main(["--run-path", "/x.py"])
        zenith.torchrun.main(["--run-path", "/x.py"])
        zenith.torchrun.run(zenith.torchrun.parse_args(["--rdzv-backend=etcd", "--rdzv-endpoint=x:1", "x.py"]))
    assert launched.call_count == 3
    assert launched.call_args.kwargs["config"].rdzv_backend == "etcd"
    assert torch.distributed.run.run is TORCHS


@pytest.mark.parametrize("form", [["-m", "calls"], ["./calls.py"]])
def test_a_program_is_run_patched(form: list[str], tmp_path: Path) -> None:
    (tmp_path / "calls.py").write_text(
        "import sys, torch.distributed.run as torchs\n"
        "assert torchs.run.__module__ == 'zenith.torchrun.launching'\n"
        "assert __name__ == '__main__' and sys.argv[1:] == ['a', '--b'], sys.argv\n"
        "sys.exit(9)\n"
    )
    command = [sys.executable, "-m", "zenith.torchrun.patched", *form, "a", "--b"]
    assert subprocess.run(command, timeout=SECONDS).returncode == 9


def test_a_program_that_is_nowhere_is_named() -> None:
    for arguments, told in [
        ([], "usage: "),
        (["-m"], "usage: "),
        (["no-such-command"], "no installed package has a command"),
    ]:
        command = [sys.executable, "-m", "zenith.torchrun.patched", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, env=os.environ)
        assert done.returncode == 1
        assert told in done.stderr
