"""`srun zenith-run` in jobs of a real Slurm; the scripts are those of the examples."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from tests.cluster.slurm.conftest import KILL_WAIT, Slurm, eventually

RANK = str(Path(__file__).with_name("rank.py"))
TWO = ["--nproc-per-node=2", RANK]
both_trackings = pytest.mark.parametrize("slurm", ["proctrack/pgid", "proctrack/linuxproc"], indirect=True)


def test_two_nodes_meet_without_a_flag(slurm: Slurm) -> None:
    began = time.monotonic()
    job = slurm.submit("train.sbatch", *TWO, "succeed")
    job.waits_for("(?m)^RANK=", 4)
    # Who cannot know that nobody else comes waits for 30 s.
    assert time.monotonic() - began < 20
    assert job.ended() == "COMPLETED", job.said
    ranks = sorted(job.ranks(), key=lambda rank: int(rank["RANK"]))
    assert [rank["RANK"] for rank in ranks] == ["0", "1", "2", "3"]
    assert [rank["LOCAL_RANK"] for rank in ranks] == ["0", "1", "0", "1"]
    assert [rank["SLURMD_NODENAME"] for rank in ranks] == ["127.0.0.1", "127.0.0.1", "127.0.0.2", "127.0.0.2"]
    assert [rank["GROUP_RANK"] for rank in ranks] == ["0", "0", "1", "1"]
    assert {rank["WORLD_SIZE"] for rank in ranks} == {"4"}
    assert {rank["TORCHELASTIC_RUN_ID"] for rank in ranks} == {f"slurm.{job.number}.0"}
    [(address, port)] = {(rank["MASTER_ADDR"], rank["MASTER_PORT"]) for rank in ranks}
    assert address == "127.0.0.1"
    assert int(port) > 0
    assert job.said.count("this Slurm step has 2 nodes, which meet at 127.0.0.1 port") == 2


def test_a_failure_starts_the_ranks_of_both_nodes_anew(slurm: Slurm) -> None:
    job = slurm.submit("train.sbatch", *TWO, "fail")
    assert job.ended() == "COMPLETED", job.said
    # Of the first attempt some may have been stopped before they could say so.
    first, second = ([rank for rank in job.ranks() if rank["TORCHELASTIC_RESTART_COUNT"] == count] for count in "01")
    assert sorted(rank["RANK"] for rank in second) == ["0", "1", "2", "3"], job.said
    assert "rank 1 failed (exit code 7) on node" in job.said
    ports = [{rank["MASTER_PORT"] for rank in attempt} for attempt in (first, second)]
    assert [len(of_attempt) for of_attempt in ports] == [1, 1]
    assert ports[0] != ports[1], "the port of the ranks' store is new"


@both_trackings
def test_scancel_leaves_ranks_their_grace_and_nothing_behind(slurm: Slurm) -> None:
    job = slurm.submit("train.sbatch", *TWO, "stubborn")
    job.waits_for("(?m)^RANK=", 4)
    assert job.said.count(f"the shutdown timeout is {KILL_WAIT - 3} s instead of 30: by its KillWait") == 2
    began = time.monotonic()
    slurm.call("scancel", str(job.number))
    job.waits_for("got SIGTERM", 4)
    assert job.ended() == "CANCELLED"
    eventually("no process is left", lambda: not slurm.of_jobs(), 2)
    # Their own launcher ends them, while it can still say so.
    assert job.said.count("killing what has not ended within the shutdown timeout") == 2
    assert "SignalException" in job.said
    assert time.monotonic() - began >= KILL_WAIT - 3


@both_trackings
def test_ranks_that_die_of_scancel_are_not_started_anew(slurm: Slurm) -> None:
    job = slurm.submit("train.sbatch", *TWO, "die")
    job.waits_for("(?m)^RANK=", 4)
    slurm.call("scancel", str(job.number))
    assert job.ended() == "CANCELLED"
    assert len(job.ranks()) == 4, job.said
    assert not slurm.of_jobs()


def test_a_job_that_is_killed_at_once_leaves_nothing(slurm: Slurm) -> None:
    job = slurm.submit("train.sbatch", *TWO, "stubborn")
    job.waits_for("(?m)^RANK=", 4)
    assert any("rank.py" in command for command in slurm.of_jobs())
    slurm.call("scancel", "--signal=KILL", str(job.number))
    # With this tracking Slurm reaches the launchers alone.
    eventually("no rank is left", lambda: not any("rank.py" in command for command in slurm.of_jobs()), 5)


def test_a_signal_is_passed_on_to_each_rank_once(slurm: Slurm) -> None:
    job = slurm.submit("train.sbatch", "--forward-signals=USR1", *TWO, "stubborn")
    job.waits_for("(?m)^RANK=", 4)
    slurm.call("scancel", "--signal=USR1", str(job.number))
    job.waits_for("got SIGUSR1", 4)
    slurm.call("scancel", str(job.number))
    job.ended()
    assert sorted(line for line in job.said.splitlines() if "USR1" in line) == [
        f"rank {r} got SIGUSR1" for r in range(4)
    ]


def test_a_job_is_warned_before_its_time_is_up_and_goes_on_in_the_queue(slurm: Slurm) -> None:
    # Slurm looks twice a minute who is to be warned.
    job = slurm.submit("requeue.sbatch", *TWO, "checkpoint", options=("--time=1", "--signal=B:USR1@60"))
    job.waits_for("(?m)^RANK=", 4)
    job.waits_for("has written a checkpoint", 4)
    assert "got SIGTERM" not in job.said
    job.waits_for("(?m)^RANK=", 8)
    assert job.ended() == "COMPLETED", job.said
    assert job.said.count("has written a checkpoint") == 4


def test_tasks_of_an_array_are_runs_of_their_own(slurm: Slurm) -> None:
    job = slurm.submit("array.sbatch", "--nproc-per-node=1", RANK, "succeed", options=("--array=0-1%2",))
    job.ended()
    ranks = job.ranks()
    assert [rank["WORLD_SIZE"] for rank in ranks] == ["1", "1"]
    assert len({rank["TORCHELASTIC_RUN_ID"] for rank in ranks}) == 2


def test_the_controller_is_asked_where_there_is_no_configuration(slurm: Slurm, zenith_run: str, tmp_path: Path) -> None:
    if any(Path(place).exists() for place in ("/etc/slurm/slurm.conf", "/run/slurm/conf/slurm.conf")):
        pytest.skip("this machine has a Slurm of its own, which would be asked")
    asking = tmp_path / "scontrol"
    asking.write_text(f'#!/bin/sh\nSLURM_CONF={slurm.folder}/slurm.conf PATH=${{PATH#*:}} exec scontrol "$@"\n')
    asking.chmod(0o755)
    environment = slurm.environment | {"SLURM_JOB_ID": "1", "PATH": f"{tmp_path}:{slurm.environment['PATH']}"}
    del environment["SLURM_CONF"]
    command = [zenith_run, "--dry-run", "--no-python", "true"]
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert f"by its KillWait, Slurm kills {KILL_WAIT} s after SIGTERM" in told.stderr, told.stderr
