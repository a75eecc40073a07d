"""A Slurm of two nodes on this machine, of Debian's packages, for any user: controller, two node daemons, munge.

Nodes are called 127.0.0.1 and 127.0.0.2, so that their names lead to the loopback everywhere. All is started here, lies in a
temporary folder, and ends with the tests; what else is installed or running of Slurm is left alone.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

SECONDS = 60.0
KILL_WAIT = 6
PROGRAMS = ["munged", "slurmctld", "slurmd", "sbatch", "scancel", "scontrol", "sinfo", "squeue", "srun"]
PATH = os.environ["PATH"] + ":/usr/sbin:/sbin:/usr/local/sbin"
MARK = "ZENITH_SLURM_TEST"
EXAMPLES = Path(__file__).parents[3] / "examples" / "slurm"
HOW = "`make test-slurm` installs it as root; by hand: apt-get install slurmctld slurmd slurm-client munge"

CONFIGURATION = """
ClusterName=zenith
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
{inside}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=6
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType={proctrack}
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
MailProg=/bin/true
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SlurmdParameters=config_overrides
SelectType=select/linear
SchedulerType=sched/builtin
SchedulerParameters=sched_interval=2
ReturnToService=2
KillWait={kill_wait}
FirstJobId={first_job}
NodeName=127.0.0.1 NodeHostname={host} Port={ports[1]} CPUs=2 State=UNKNOWN
NodeName=127.0.0.2 NodeHostname={host} Port={ports[2]} CPUs=2 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def eventually(what: str, holds: Callable[[], object], seconds: float = SECONDS) -> None:
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, f"not within {seconds} s: {what}"
        time.sleep(0.05)


@dataclass
class Job:
    slurm: Slurm
    number: int
    folder: Path

    @property
    def said(self) -> str:
        """All logs, one after the other."""
        return "".join(path.read_text() for path in sorted(self.folder.glob("*.log")))

    def ranks(self) -> list[dict[str, str]]:
        """What each rank that started was given; of one node, in the order of their starts."""
        lines = [line for line in self.said.splitlines() if line.startswith("RANK=")]
        return [dict(pair.split("=", 1) for pair in line.split(" ")) for line in lines]

    def waits_for(self, pattern: str, count: int = 1) -> None:
        def holds() -> bool:
            return len(re.findall(pattern, self.said)) >= count

        eventually(f"{count} times {pattern!r}", holds)

    def state(self) -> str:
        shown = self.slurm.call("scontrol", "show", "job", str(self.number))
        found = re.search(r"JobState=(\w+)", shown)
        assert found is not None, shown
        return found[1]

    def ended(self) -> str:
        """Its state when nothing of it is left."""
        eventually(f"job {self.number} ends", lambda: not self.slurm.call("squeue", "-h", "-j", str(self.number)))
        return self.state()


@dataclass
class Slurm:
    folder: Path
    environment: dict[str, str]
    daemons: list[subprocess.Popen[bytes]]

    def call(self, *command: str) -> str:
        called = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=SECONDS)
        if called.returncode == 0 or "Invalid job id" in called.stderr:
            return called.stdout
        raise AssertionError(f"{command}: {called.stderr}{self.logs()}")

    def submit(self, script: str, *arguments: str, options: tuple[str, ...] = ()) -> Job:
        """Submits a script of the examples; `arguments` are for zenith-run and the ranks."""
        folder = self.folder / f"job-{time.monotonic_ns()}"
        folder.mkdir()
        command = ["sbatch", "--parsable", f"--chdir={folder}", *options, str(EXAMPLES / script), *arguments]
        return Job(self, int(self.call(*command)), folder)

    def logs(self) -> str:
        return "".join(
            f"\n== {path.name}\n{path.read_text()[-2000:]}" for path in sorted(self.folder.glob("slurm*.log"))
        )

    def start(self, *command: str) -> None:
        with (self.folder / f"out-{len(self.daemons)}").open("wb") as out:
            daemon = subprocess.Popen(command, env=self.environment, stdout=out, stderr=out, stdin=subprocess.DEVNULL)
        self.daemons.append(daemon)

    def are_nodes_idle(self) -> bool:
        asked = subprocess.run(["sinfo", "-h", "-o", "%T %D"], env=self.environment, capture_output=True, text=True)
        return asked.stdout.strip() == "idle 2"

    def processes(self) -> list[int]:
        """All that was started here or by what was started here."""
        mark = f"{MARK}={self.folder}".encode()

        def is_marked(process: Path) -> bool:
            try:
                return mark in (process / "environ").read_bytes().split(b"\0")
            except OSError:
                return False

        return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit() and is_marked(path)]

    def of_jobs(self) -> list[str]:
        """The commands of those that are not Slurm's own."""
        names = []
        for number in self.processes():
            try:
                name = Path(f"/proc/{number}/comm").read_text()
                command = Path(f"/proc/{number}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if command and not name.startswith(("slurm", "munge")):
                names.append(command)
        return names

    def end(self) -> None:
        for daemon in reversed(self.daemons):
            daemon.terminate()
        for daemon in self.daemons:
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        for number in self.processes():
            os.kill(number, signal.SIGKILL)


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for free in sockets:
        free.bind(("127.0.0.1", 0))
    ports = [int(free.getsockname()[1]) for free in sockets]
    for free in sockets:
        free.close()
    return ports


def inside(host: str) -> str:
    """Its daemons can be bound to the machine's own name alone, or to all addresses."""
    try:
        is_loopback = socket.gethostbyname(host).startswith("127.")
    except OSError:
        is_loopback = False
    return "CommunicationParameters=NoInAddrAny,NoCtldInAddrAny" if is_loopback else ""


def start_slurm(folder: Path, zenith_run: str, proctrack: str) -> Slurm:
    host = socket.gethostname().split(".")[0]
    user = subprocess.run(["id", "-un"], check=True, capture_output=True, text=True).stdout.strip()
    text = CONFIGURATION.format(
        host=host,
        user=user,
        folder=folder,
        proctrack=proctrack,
        ports=free_ports(3),
        inside=inside(host),
        kill_wait=KILL_WAIT,
        # The port of a step follows from its job, and other runs of these tests have theirs.
        first_job=random.randrange(1, 1_000_000),
    )
    (folder / "slurm.conf").write_text(text)
    (folder / "state").mkdir()
    (folder / "munge.key").touch(0o600)
    (folder / "munge.key").write_bytes(os.urandom(128))
    others = ("SLURM_", "SBATCH_", "PET_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(others)}
    environment |= {"SLURM_CONF": str(folder / "slurm.conf"), MARK: str(folder), "OMP_NUM_THREADS": "1"}
    environment |= {"PATH": f"{Path(zenith_run).parent}:{PATH}", "PYTHON_EXEC": sys.executable}
    slurm = Slurm(folder, environment, [])
    try:
        # Forced, for it dislikes folders that only their owner may enter.
        munge = ["munged", "--foreground", "--force", f"--socket={folder}/munge.socket"]
        munge += [f"--key-file={folder}/munge.key", f"--pid-file={folder}/munged.pid"]
        slurm.start(*munge, f"--seed-file={folder}/munged.seed", f"--log-file={folder}/munged.log")
        eventually("munge is there", (folder / "munge.socket").exists)
        slurm.start("slurmctld", "-D")
        for node in (1, 2):
            slurm.start("slurmd", "-D", "-N", f"127.0.0.{node}")
        eventually("both nodes are there", slurm.are_nodes_idle)
    except AssertionError as error:
        logs = slurm.logs()
        slurm.end()
        raise AssertionError(f"{error}{logs}") from error
    return slurm


@pytest.fixture(scope="session", params=["proctrack/pgid"])
def slurm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, zenith_run: str) -> Iterator[Slurm]:
    """How a step's processes are found is the parameter: `pgid` signals the tasks alone, as `cgroup` does, `linuxproc` all."""
    missing = [program for program in PROGRAMS if shutil.which(program, path=PATH) is None]
    if missing:
        why = f"Slurm is not installed ({missing[0]} is missing). {HOW}"
        if os.environ.get("ZENITH_REQUIRE_SLURM") == "1":
            pytest.fail(why)
        pytest.skip(why)
    slurm = start_slurm(tmp_path_factory.mktemp("slurm"), zenith_run, request.param)
    yield slurm
    slurm.end()


@pytest.fixture(autouse=True)
def _no_jobs_are_left(request: pytest.FixtureRequest, time_limit: None) -> Iterator[None]:
    yield
    if "slurm" in request.fixturenames:
        slurm: Slurm = request.getfixturevalue("slurm")
        for number in slurm.call("squeue", "-h", "-o", "%A").split():
            slurm.call("scancel", number)
        eventually("no job is left", lambda: not slurm.call("squeue", "-h"))
        eventually("both nodes are free", slurm.are_nodes_idle)
