"""What programs that have started launchers of several nodes are told."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from .conftest import Start


def test_each_node_tells_of_its_own_ranks_or_that_others_have_ended_the_run(start: Start, tmp_path: Path) -> None:
    files = [tmp_path / f"outcome{rank}" for rank in range(2)]
    fails = "[ $RANK != 3 ] || { sleep 0.3; exit 7; }; sleep 60"
    nodes = [
        start(fails, "--nnodes=2", f"--node-rank={rank}", f"--outcome-file={file}", backend="static")
        for rank, file in enumerate(files)
    ]
    assert [node.code() for node in nodes] == [1, 1]
    told, own = (json.loads(file.read_text()) for file in files)
    assert (told["outcome"], told["kind"]) == ("error", "RendezvousError")
    assert "rank 3 failed (exit code 7)" in told["message"]
    assert (own["outcome"], own["entry"]) == ("failed", "bash")
    assert [(one["rank"], one["local_rank"], one["exit_code"]) for one in own["failures"]] == [(3, 1, 7), (2, 0, -15)]
    # To say it is up to who was told.
    assert all(node.stderr.count("FAILED") == 0 for node in nodes)


def test_too_few_nodes_are_told(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "outcome"
    node = start(":", "--nnodes=2", "--rdzv-conf=join_timeout=0.5", f"--outcome-file={file}")
    assert node.code() == 1
    told = json.loads(file.read_text())
    assert (told["kind"], told["message"].partition(" have come")[0]) == ("RendezvousError", "1 of at least 2 nodes")


def test_a_file_or_a_parent_that_is_none_is_an_error_before_the_run(zenith_run: str, tmp_path: Path) -> None:
    for flag, said in [
        (f"--outcome-file={tmp_path / 'no' / 'such'}", "such cannot be written: No such file"),
        (f"--with-parent={os.getppid()}", f"process {os.getppid()} is not the parent of this one, or has ended"),
    ]:
        command = [zenith_run, flag, f"--log-dir={tmp_path}", "--no-python", "touch", str(tmp_path / "started")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 1
        assert said in done.stderr
        assert list(tmp_path.iterdir()) == []
