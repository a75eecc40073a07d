"""`zenith-run --install-alias`: a `torchrun` for callers that start it by name (TY-3), which never leads back to itself."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SYSTEM = "/usr/local/bin:/usr/bin:/bin"


@pytest.fixture
def alias(zenith_run: str, tmp_path: Path) -> Path:
    folder = tmp_path / "new" / "bin"
    done = subprocess.run([zenith_run, "--install-alias", folder], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(f"^{folder}/torchrun is now .*/zenith-run$", done.stdout, re.M)
    return folder / "torchrun"


def run(command: str | list[str], path: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": path, "OMP_NUM_THREADS": "1"} | variables
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def test_torchx_finds_it(alias: Path, tmp_path: Path) -> None:
    """The line is that of TorchX's dist.ddp component."""
    line = (
        "torchrun --rdzv_backend c10d --rdzv_endpoint localhost:0 --rdzv_id 'job-1' --nnodes 1 --nproc_per_node 2 "
        "--tee 3 --role '' --no-python echo hello"
    )
    environment = {"TMPDIR": str(tmp_path)}
    done = run(["bash", "-c", line], f"{alias.parent}:{SYSTEM}", **environment)
    assert (done.returncode, sorted(done.stdout.split("\n"))) == (0, ["", "[0]:hello", "[1]:hello"]), done.stderr


def test_nothing_is_overwritten(zenith_run: str, alias: Path, tmp_path: Path) -> None:
    again = run([zenith_run, "--install-alias", str(alias.parent)], str(alias.parent))
    assert (again.returncode, again.stdout.count("\n")) == (0, 1)
    assert "torchrun is already " in again.stdout
    for name, make in [
        ("file", "echo torchs >torchrun"),
        ("dangling", "ln -s /nowhere torchrun"),
        ("folder", "mkdir torchrun"),
    ]:
        folder = tmp_path / name
        folder.mkdir()
        subprocess.run(make, shell=True, cwd=folder, check=True)
        before = os.lstat(folder / "torchrun")
        done = run([zenith_run, f"--install-alias={folder}"], SYSTEM)
        assert done.returncode == 1
        assert f"{folder}/torchrun exists and is not overwritten" in done.stderr
        assert os.lstat(folder / "torchrun") == before


def test_who_comes_first_in_the_path_is_said(zenith_run: str, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "torchrun").write_text("#!/bin/sh\n")
    (other / "torchrun").chmod(0o755)
    done = run([zenith_run, "--install-alias", str(tmp_path / "a")], f"{other}:{tmp_path / 'a'}")
    assert f"PATH has {other}/torchrun first: export PATH={tmp_path / 'a'}:$PATH" in done.stdout


def test_an_alias_of_the_alias_is_the_program(zenith_run: str, alias: Path, tmp_path: Path) -> None:
    assert run([str(alias), "--install-alias", str(tmp_path)], SYSTEM).returncode == 0
    assert (tmp_path / "torchrun").readlink() == Path(zenith_run).resolve()


def test_what_is_pythons_does_not_come_back(alias: Path, tmp_path: Path) -> None:
    """A Python whose own environment has the alias in front is given the module, not the command."""
    python = tmp_path / "python3"
    # And none of its signals is blocked; that of the child is asked for, as shells change their own.
    python.write_text('#!/bin/sh\necho "$@" "$(command -v torchrun)" $(grep SigBlk /proc/self/status)\n')
    python.chmod(0o755)
    done = run([str(alias), "--run-path", "/x.py"], f"{alias.parent}:{tmp_path}:{SYSTEM}")
    assert done.returncode == 0, done.stderr
    blocked = ["SigBlk:", "0" * 16]
    assert done.stdout.split() == ["-m", "torch.distributed.run", "--run-path", "/x.py", str(alias), *blocked]


@pytest.mark.parametrize(
    "loop", ["ln -s {alias} python3", "printf '#!/bin/sh\\nexec torchrun --run-path x' >python3; chmod +x python3"]
)
def test_a_loop_ends_with_an_error(loop: str, alias: Path, tmp_path: Path) -> None:
    """`python3` is the alias, or a script that becomes it."""
    subprocess.run(loop.format(alias=alias), shell=True, cwd=tmp_path, check=True)
    done = run([str(alias), "--run-path", "/x.py"], f"{alias.parent}:{tmp_path}:{SYSTEM}")
    assert done.returncode == 1
    assert "leads back to zenith-run instead of a Python" in done.stderr
    assert done.stderr.count("handing over") <= 2
    named = run([str(alias), f"--python={alias}", "--run-path", "/x.py"], SYSTEM)
    assert (named.returncode, "leads back" in named.stderr) == (1, True)


def test_torchs_own_launcher_under_an_alias_is_torchs(alias: Path, tmp_path: Path) -> None:
    """With the alias in front in PATH, torch does what only it can do, and its ranks run."""
    script = tmp_path / "says.py"
    script.write_text("import os; print('rank', os.environ['RANK'])\n")
    path = f"{alias.parent}:{os.path.dirname(sys.executable)}:{SYSTEM}"
    done = run([str(alias), f"--python={sys.executable}", "--run-path", str(script)], path, TMPDIR=str(tmp_path))
    assert (done.returncode, done.stdout) == (0, "rank 0\n"), done.stderr


def test_the_wheel_has_no_torchrun() -> None:
    """It would take the place of torch's own."""
    assert "torchrun" not in re.sub(r"zenith\.torchrun", "", (ROOT / "setup.py").read_text())
    project = (ROOT / "pyproject.toml").read_text()
    assert "[project.scripts]" not in project
    assert "console_scripts" not in project
    theirs = Path(sysconfig.get_path("scripts")) / "torchrun"
    assert not theirs.is_symlink(), "the tests' own environment has torch's"
