"""DL-38, DL-42 and DL-48: what holds for a whole program: its signal handler, and its end."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from contract_support import is_gone, wait_until

Loader = type[torch.utils.data.DataLoader]
Outcome = tuple[int, list[str], str]

# Imports once (random numbers too, as each worker would), and then runs each program in a fork, which ends as any
# interpreter does.
FORKS = """
    import json, os, sys
    import numpy.random, torch, zenith_torch

    programs, folder = json.loads(sys.argv[1]), sys.argv[2]
    children = {}
    for program, code in programs.items():
        child = os.fork()
        if child == 0:
            for number, kind in ((1, "out"), (2, "err")):
                os.dup2(os.open(f"{folder}/{program}.{kind}", os.O_CREAT | os.O_WRONLY), number)
            break
        children[child] = program
    else:
        statuses = {}
        while children:
            child, status = os.wait()
            statuses[children.pop(child)] = os.waitstatus_to_exitcode(status)
        print(json.dumps(statuses))
        sys.exit()
    DataLoader = {"torch": torch.utils.data.DataLoader, "zenith": zenith_torch.DataLoader}[program.split()[0]]
    exec(code)
"""

HANDLERS = """
    import signal, threading

    called = []
    def mine(number, frame):
        called.append(number)
    signal.signal(signal.SIGCHLD, mine)
    thread = threading.Thread(target=lambda: list(DataLoader(range(4), num_workers=1)))
    thread.start()
    thread.join()
    print(signal.getsignal(signal.SIGCHLD) is mine)
    called.clear()
    first, second = (iter(DataLoader(range(100), batch_size=10, num_workers=1)) for _ in range(2))
    handler = signal.getsignal(signal.SIGCHLD)
    print(handler is not mine)
    print([next(iterator)[0].item() for iterator in (first, second, first, second, second)])
    del first, second
    print(len(called) >= 2)
    list(DataLoader(range(4), num_workers=1))
    print(signal.getsignal(signal.SIGCHLD) is handler)
"""

USE = """
    loader = DataLoader(range(1000), num_workers=2, persistent_workers={persistent})
    iterator = iter(loader)
    next(iterator)
    print(*[worker.pid for worker in iterator._workers], flush=True)
    {ending}
"""

# How a program ends, whether its workers are persistent, and its exit status.
ENDINGS = [
    ("pass", False, 0),
    ("pass", True, 0),
    ("raise ValueError('of the program')", False, 1),
    ("sys.exit(7)", True, 7),
]


@pytest.fixture(scope="module")
def outcome_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Outcome]:
    folder = tmp_path_factory.mktemp("programs")
    programs = {}
    for name in ("torch", "zenith"):
        programs[f"{name} handlers"] = HANDLERS
        for ending, persistent, _ in ENDINGS:
            programs[f"{name} {ending} {persistent}"] = USE.format(persistent=persistent, ending=ending)
    codes = {name: textwrap.dedent(code) for name, code in programs.items()}
    command = [sys.executable, "-c", textwrap.dedent(FORKS), json.dumps(codes), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=35)
    assert done.returncode == 0, done.stderr
    statuses = json.loads(done.stdout)

    def outcome(program: str) -> Outcome:
        out, err = (Path(folder, f"{program}.{kind}").read_text() for kind in ("out", "err"))
        return statuses[program], out.splitlines(), err

    return outcome


def name_of(loader_class: Loader) -> str:
    return "torch" if loader_class is torch.utils.data.DataLoader else "zenith"


def test_dl_38_and_dl_48_the_signal_handler(loader_class: Loader, outcome_of: Callable[[str], Outcome]) -> None:
    """Installed from the main thread only, and once; the earlier handler is called as well."""
    status, lines, errors = outcome_of(f"{name_of(loader_class)} handlers")
    assert lines == ["True", "True", "[0, 0, 10, 10, 20]", "True", "True"]
    assert (status, errors) == (0, "")


@pytest.mark.parametrize(("ending", "persistent", "expected"), ENDINGS)
def test_dl_42_no_worker_outlives_the_program(
    loader_class: Loader, ending: str, persistent: bool, expected: int, outcome_of: Callable[[str], Outcome]
) -> None:
    status, lines, errors = outcome_of(f"{name_of(loader_class)} {ending} {persistent}")
    assert status == expected
    pids = [int(pid) for line in lines for pid in line.split()]
    assert len(pids) == 2
    assert wait_until(lambda: all(is_gone(pid) for pid in pids), 2)
    if "raise" in ending:
        assert errors.startswith("Traceback")
        assert errors.endswith("\nValueError: of the program\n")
        assert errors.count("Traceback") == 1
    else:
        assert errors == ""
