"""zenith-run beside torchrun: `python -m benchmarks.launcher`. Needs torch, cc, and an installed zenith-run; minutes.

Turns are interleaved, so that what else the machine does hits both; the table has medians and [least, greatest]. Workers are a
static C program where nothing else is said, so that what is timed is the launcher and no interpreter.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent
SCRIPT = "import os, sys, time; open(sys.argv[1], 'a').write(f'entered - {time.monotonic_ns()}\\n')"
# Notes its first line behind the import, and fails once: after a second, or when the template of warm starts is ready. It ends at
# once, as what is timed is the restart and not how long an interpreter takes to clear up.
TORCH_SCRIPT = """
import os, sys, time
import torch

def note(what):
    with open(sys.argv[1], "a") as file:
        file.write(f"{what} - {time.monotonic_ns()}\\n")

def is_ready():
    siblings = open(f"/proc/{os.getppid()}/task/{os.getppid()}/children").read().split()
    return any(open(f"/proc/{pid}/comm").read() == "zenith-template\\n" for pid in siblings)

note("entered")
if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
    time.sleep(1)
    while sys.argv[2] == "warm" and not is_ready():
        time.sleep(0.01)
    note("failed")
    os._exit(1)
"""
Command = list[str]


class Turn:
    """One run of a launcher, and what its workers noted."""

    def __init__(self, launcher: Command, folder: Path) -> None:
        self.launcher = launcher
        self.folder = folder
        self.notes = folder / "notes"
        self.notes.unlink(missing_ok=True)
        self.started = 0

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        self.started = time.monotonic_ns()
        quiet = subprocess.DEVNULL
        return subprocess.Popen([*self.launcher, *arguments], stdout=quiet, stderr=quiet, cwd=self.folder)

    def run(self, *arguments: str) -> float:
        """Seconds until the launcher had ended."""
        self.start(*arguments).wait(timeout=120)
        return (time.monotonic_ns() - self.started) / 1e9

    def times(self, what: str) -> list[int]:
        lines = self.notes.read_text().splitlines() if self.notes.exists() else []
        return [int(line.split()[2]) for line in lines if line.startswith(f"{what} ")]

    def wait_for(self, what: str, count: int, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while len(self.times(what)) < count:
            if time.monotonic() > deadline:
                raise SystemExit(f"{self.launcher[0]}: {count} workers were to be {what} within {seconds:.0f} s")
            time.sleep(0.005)

    def worker(self, what: str) -> Command:
        return ["--no-python", str(self.folder / "worker"), str(self.notes), what]


def first_instruction(turn: Turn) -> float:
    turn.run(*turn.worker("end"))
    return (turn.times("entered")[0] - turn.started) / 1e6


def python_line(turn: Turn) -> float:
    turn.run(str(turn.folder / "script.py"), str(turn.notes))
    return (turn.times("entered")[0] - turn.started) / 1e6


def whole_run(turn: Turn) -> float:
    return 1e3 * turn.run("--no-python", "/bin/true")


def replacement(turn: Turn) -> float:
    turn.run("--max-restarts=1", *turn.worker("fail-once"))
    return (turn.times("entered")[1] - turn.times("failed")[0]) / 1e6


def torch_replacement(turn: Turn, kind: str = "cold", *flags: str) -> float:
    turn.run(*flags, "--max-restarts=1", str(turn.folder / "torch_script.py"), str(turn.notes), kind)
    return (turn.times("entered")[1] - turn.times("failed")[0]) / 1e6


def warm_replacement(turn: Turn) -> float:
    is_ours = "torch.distributed.run" not in turn.launcher
    return torch_replacement(turn, "warm", "--warm") if is_ours else torch_replacement(turn)


def last_of_64(turn: Turn) -> float:
    turn.run("--nproc-per-node=64", *turn.worker("end"))
    return (max(turn.times("entered")) - turn.started) / 1e6


def all_dead(turn: Turn) -> float:
    """From the failure of one of 64 ranks to the end of the launcher, which is after that of all ranks."""
    turn.run("--nproc-per-node=64", *turn.worker("fail-first"))
    return (time.monotonic_ns() - turn.times("failed")[0]) / 1e6


def one_of_two_nodes(turn: Turn) -> float:
    nodes = ["--nnodes=1:2", "--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0", "--rdzv-conf=membership=final"]
    turn.run(*nodes, *turn.worker("end"))
    return (turn.times("entered")[0] - turn.started) / 1e6


def resident(turn: Turn) -> float:
    """MiB of the launcher and its helpers, without the rank."""
    process = turn.start(*turn.worker("sleep"))
    try:
        turn.wait_for("entered", 1)
        time.sleep(0.2)
        return sum(map(proportional_kib, tree(process.pid, str(turn.folder / "worker")))) / 1024
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


def template(turn: Turn) -> float:
    """MiB of the template of warm starts, while a rank with torch runs that was started cold."""
    script = turn.folder / "idle.py"
    script.write_text("import torch, time; time.sleep(1000)")
    process = turn.start("--warm", "--max-restarts=1", str(script))
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            for pid in tree(process.pid, ""):
                if Path(f"/proc/{pid}/comm").read_text() == "zenith-template\n":
                    return proportional_kib(pid) / 1024
            time.sleep(0.05)
        raise SystemExit("zenith-run --warm: there was to be a template within 60 s")
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


def tree(root: int, rank: str) -> Iterator[int]:
    if Path(f"/proc/{root}/cmdline").read_bytes().split(b"\0")[0] == rank.encode():
        return
    yield root
    for thread in Path(f"/proc/{root}/task").iterdir():
        for child in (thread / "children").read_text().split():
            yield from tree(int(child), rank)


def proportional_kib(pid: int) -> int:
    """What is shared counts by its share, so that libraries of two processes do not count twice."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


# Name, unit, what is measured, turns of torchrun at most (some of its take half a minute).
ROWS: list[tuple[str, str, Callable[[Turn], float], int]] = [
    ("start to a static C worker's first instruction", "ms", first_instruction, 99),
    ("start to a Python worker's first line", "ms", python_line, 99),
    ("a whole run of /bin/true", "ms", whole_run, 99),
    ("failure to the replacement's first instruction", "ms", replacement, 99),
    ("failure to the replacement's first line behind `import torch`", "ms", torch_replacement, 3),
    ("the same with --warm, torchrun without", "ms", warm_replacement, 3),
    ("start to the first instruction of the last of 64", "ms", last_of_64, 3),
    ("failure of one of 64 to the end of all", "ms", all_dead, 3),
    ("--nnodes=1:2, one node there, membership final", "ms", one_of_two_nodes, 1),
    ("launcher and helpers, proportional set size", "MiB", resident, 3),
]


def text(values: list[float]) -> str:
    least, greatest = min(values), max(values)
    spread = f" [{least:,.1f}, {greatest:,.1f}]" if len(values) > 1 else ""
    return f"{statistics.median(values):,.1f}{spread}"


@contextmanager
def workers() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = ["cc", "-O2", "-static", "-o", str(folder / "worker"), str(HERE / "worker.c")]
        subprocess.run(command, check=True)
        (folder / "script.py").write_text(SCRIPT)
        (folder / "torch_script.py").write_text(TORCH_SCRIPT)
        yield folder


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.launcher", description=__doc__)
    parser.add_argument("--turns", type=int, default=9, help="interleaved turns of each row (9)")
    parser.add_argument("--only", default="", help="rows whose name contains this")
    options = parser.parse_args()
    beside = Path(sys.executable).with_name("zenith-run")
    ours = str(beside) if beside.exists() else shutil.which("zenith-run")
    if ours is None:
        raise SystemExit("zenith-run is not installed: pip install .")
    launchers = {"zenith-run": [ours], "torchrun": [sys.executable, "-m", "torch.distributed.run"]}
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    print(f"load at the start: {os.getloadavg()[0]:.1f}; {os.cpu_count()} cores\n", flush=True)
    print("| | | zenith-run | torchrun | ratio |\n|---|---|--:|--:|--:|", flush=True)
    with workers() as folder:
        for name, unit, measure, most in ROWS:
            if options.only not in name:
                continue
            seen: dict[str, list[float]] = {launcher: [] for launcher in launchers}
            for turn in range(options.turns):
                for launcher, command in launchers.items():
                    if launcher == "zenith-run" or turn < most:
                        seen[launcher].append(measure(Turn(command, folder)))
            ratio = statistics.median(seen["torchrun"]) / statistics.median(seen["zenith-run"])
            print(
                f"| {name} | {unit} | {text(seen['zenith-run'])} | {text(seen['torchrun'])} | {ratio:,.0f} × |",
                flush=True,
            )
        bare = [python_alone(folder) for _ in range(options.turns)]
        print(f"| the same Python without a launcher | ms | {text(bare)} | | |", flush=True)
        held = [template(Turn([ours], folder)) for _ in range(min(options.turns, 3))]
        print(f"| the template of --warm, proportional set size | MiB | {text(held)} | | |")


def python_alone(folder: Path) -> float:
    turn = Turn([sys.executable], folder)
    turn.run("-u", str(folder / "script.py"), str(turn.notes))
    return (turn.times("entered")[0] - turn.started) / 1e6


if __name__ == "__main__":
    main()
