"""Programs that use loaders, hit by signals at random moments: ``python soak.py kills|interrupts COUNT``.

Each runs in a fork, so that torch is imported once. This process is the one to which whatever they leave behind falls, and
which looks for it. Ends with one line of JSON, or with the first thing that is wrong.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy.random  # noqa: F401  (or each worker imports it)
import torch
import zenith_torch
from torch.utils.data import Dataset, IterableDataset, get_worker_info

PROMPT_S = 3.0
"""Bound of every reaction; five seconds is where torch's own looks at its workers would hide what was missed."""
END_S = 10.0
TIMEOUT_S = 0.5
KINDS = ("small", "large", "texts", "views")


def sample(kind: str, index: int) -> Any:
    if kind == "small":
        return {"x": torch.full((4,), float(index)), "index": index}
    if kind == "large":
        return {"x": torch.full((300, 300), float(index)), "index": index}
    if kind == "texts":
        return {"x": "x" * 3000, "index": index}
    shared = torch.full((50,), float(index))
    return {"x": shared, "part": shared[::2], "index": torch.tensor(index)}


class Samples(Dataset):
    def __init__(self, kind: str, size: int) -> None:
        self.kind, self.size = kind, size

    def __getitem__(self, index: int) -> Any:
        return sample(self.kind, index)

    def __len__(self) -> int:
        return self.size


class Stream(IterableDataset):
    def __init__(self, kind: str, size: int) -> None:
        self.kind, self.size = kind, size

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        return (sample(self.kind, index) for index in range(worker.id, self.size, worker.num_workers))


def first(samples: list[Any]) -> Any:
    """As ``collate_fn``: tensors that share memory go out as they are."""
    return samples[0]


def loader(chance: random.Random, **options: Any) -> Any:
    kind = chance.choice(KINDS)
    if kind == "views" and options.get("timeout"):
        # Torch fetches descriptors from the worker itself, and waits for one that is stopped as long as that takes.
        kind = "small"
    dataset = chance.choice([Samples, Stream])(kind, chance.choice([1, 20, 60]))
    if kind == "views":
        options["collate_fn"] = first
    options.setdefault("persistent_workers", chance.random() < 0.3)
    options.setdefault("prefetch_factor", chance.choice([1, 2, 16]))
    return zenith_torch.DataLoader(
        dataset, batch_size=chance.choice([1, 7]), num_workers=chance.choice([1, 2, 3]), **options
    )


# -- what a program has, and leaves ------------------------------------------------------------------------------------


def children(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += map(int, task.read_text().split())
    return found


def is_dead(pid: int) -> bool:
    """Whether it has ended, and waits for its parent to notice."""
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] == "Z"


def holdings() -> dict[str, int]:
    """Of this process: descriptors, threads, children, arenas in its address space."""
    return {
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")),
        "children": sum(not is_dead(child) for child in children(os.getpid())),
        "arenas": Path("/proc/self/maps").read_text().count("zenith-arena"),
    }


def open_files() -> list[str]:
    found = []
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found.append(os.readlink(link))
    return found


def excess(before: dict[str, int]) -> dict[str, Any]:
    """What there is more of than before, when that does not go away by itself."""
    end = time.monotonic() + PROMPT_S
    while True:
        gc.collect()
        now = holdings()
        more: dict[str, Any] = {name: now[name] - count for name, count in before.items() if now[name] > count}
        if not more or time.monotonic() > end:
            return more | ({"open": open_files()} if "descriptors" in more else {})
        time.sleep(0.005)


def shared_names() -> set[str]:
    return {name for name in os.listdir("/dev/shm") if "zenith" in name or name.startswith("torch_")}


# -- the programs ------------------------------------------------------------------------------------------------------


class Report:
    """Tells the process outside what has happened."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe

    def __call__(self, **what: Any) -> None:
        os.write(self._pipe, json.dumps(what).encode() + b"\n")


def killed(chance: random.Random, report: Report, timeout: float) -> None:
    """Iterates until a worker dies, or stops."""

    def use() -> str:
        loaders = [loader(chance, timeout=timeout) for _ in range(3)]
        kept = []
        try:
            while True:
                for batches in loaders:
                    for batch in batches:
                        kept = [*kept[-5:], batch]
        except RuntimeError as error:
            report(event="error")
            return str(error)

    before = holdings()
    report(event="ready")
    text = ""
    while not text:
        # Torch's handler of a child's death may raise in the midst of this as well.
        with contextlib.suppress(RuntimeError):
            text = use()
    expected = ("DataLoader worker (pid", "DataLoader timed out after") if timeout else ("DataLoader worker (pid",)
    if not text.startswith(expected):
        report(event="wrong", text=text)
    report(event="left", what=excess(before))
    # An interpreter takes a second to end by itself.
    os._exit(0)


def interrupted(chance: random.Random, report: Report) -> None:
    """Constructs, iterates, breaks off, holds and drops, until Ctrl-C; ends with iterators that live."""

    def use() -> None:
        loaders: Any = [loader(chance) for _ in range(3)]
        for _ in range(chance.choice([1, 1000])):
            for batches in loaders:
                for number, _ in enumerate(batches):
                    if number == chance.choice([0, 5, 1000]):
                        break
        living.extend(iter(batches) for batches in loaders)
        report(event="end")

    living: list[Any] = []
    before = holdings()
    is_interrupted = False
    try:
        report(event="ready")
        use()
    except KeyboardInterrupt:
        is_interrupted = True
    if is_interrupted:
        living.clear()
        report(event="interrupted")
        report(event="left", what=excess(before))


def continued(chance: random.Random, report: Report) -> None:
    """Goes on with the same iterator after each Ctrl-C; every batch comes once and in order."""
    size = 400
    dataset = Samples(chance.choice(["small", "large", "texts"]), size)
    iterator = None
    seen: list[int] = []
    while iterator is None:
        try:
            made = zenith_torch.DataLoader(dataset, num_workers=2, prefetch_factor=chance.choice([1, 2, 8]))
            iterator = iter(made)
        except KeyboardInterrupt:
            pass
    report(event="ready")
    batch = None
    is_over = False
    while not is_over:
        try:
            for batch in iterator:
                seen.append(batch["index"].item())
            is_over = True
        except KeyboardInterrupt:
            # One that was handed out, and hit in the line that notes it.
            if batch is not None and seen[-1:] != [batch["index"].item()]:
                seen.append(batch["index"].item())
    report(event="seen", right=seen == list(range(size)), count=len(seen))


# -- the one outside ---------------------------------------------------------------------------------------------------


class Outside:
    """Runs one program, hits it, and sees it end."""

    def __init__(self, program: Any, seed: int) -> None:
        self.program, self.seed = program, seed
        self.events: dict[str, Any] = {}
        self._rest = b""
        self.pipe, writer = os.pipe()
        os.set_blocking(self.pipe, False)
        self.pid = os.fork()
        if self.pid == 0:
            os.setsid()
            os.close(self.pipe)
            os.dup2(os.open(os.environ.get("SOAK_ERRORS", os.devnull), os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
            raise Inside(program, random.Random(seed), Report(writer))
        os.close(writer)

    def wait(self, event: str, seconds: float) -> bool:
        end = time.monotonic() + seconds
        while event not in self.events:
            with contextlib.suppress(BlockingIOError):
                *lines, self._rest = (self._rest + os.read(self.pipe, 10_000)).split(b"\n")
                for line in lines:
                    told = json.loads(line)
                    self.events[told.pop("event")] = told
            if time.monotonic() > end or self.is_dead():
                return event in self.events
            time.sleep(0.0005)
        return True

    def is_dead(self) -> bool:
        return is_dead(self.pid)

    def fail(self, what: str) -> None:
        tree = [self.pid, *children(self.pid)]
        states = {
            pid: Path(f"/proc/{pid}/stat").read_text().split()[2] for pid in tree if Path(f"/proc/{pid}").exists()
        }
        for pid in tree:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        sys.exit(f"seed {self.seed}: {what}; {self.events}; {states}")

    def see_the_end(self) -> float:
        """Seconds until the program is gone, and with it whatever it started."""
        started = time.monotonic()
        while True:
            try:
                ended, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if not ended:
                time.sleep(0.001)
            if time.monotonic() - started > END_S:
                self.fail(f"processes are left: {children(os.getpid())}")
        self.wait("nothing more", 0)
        os.close(self.pipe)
        left = self.events.get("left", {}).get("what", {})
        if left:
            self.fail("something is left behind")
        return time.monotonic() - started


class Inside(BaseException):
    """Leaves the loop of the one outside, in the fork."""

    def __init__(self, program: Any, chance: random.Random, report: Report) -> None:
        self.run = lambda: program(chance, report)


def kill(count: int) -> dict[str, Any]:
    chance = random.Random(1)
    slowest: dict[str, float] = {}
    for turn in range(count):
        number = [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM, signal.SIGSTOP][turn % 4]
        timeout = TIMEOUT_S if number == signal.SIGSTOP else 0
        outside = Outside(lambda *given, timeout=timeout: killed(*given, timeout), turn)
        outside.wait("ready", END_S) or outside.fail("does not begin")
        time.sleep(chance.random() * 0.15)
        hit = time.monotonic()
        for _ in range(100):
            # The one that is hit may just have been leaving anyway.
            while not (workers := children(outside.pid)) and not outside.is_dead():
                time.sleep(0.0002)
            if not workers:
                # Torch's handler of a child's death has raised in one of its own lines, outside of its `try`.
                slowest["ended by themselves"] = slowest.get("ended by themselves", 0) + 1
                break
            hit = time.monotonic()
            with contextlib.suppress(ProcessLookupError):
                os.kill(chance.choice(workers), number)
            if outside.wait("error", 0.3 + timeout):
                break
        else:
            outside.wait("error", PROMPT_S) or outside.fail(f"{number.name} is not noticed")
        if "error" in outside.events:
            took = time.monotonic() - hit - timeout
            slowest[number.name] = max(slowest.get(number.name, 0), took)
            outside.wait("left", END_S) or outside.is_dead() or outside.fail("does not come to its end")
        if "wrong" in outside.events:
            outside.fail("another error")
        slowest["end"] = max(slowest.get("end", 0), outside.see_the_end())
    return slowest


def interrupt(count: int) -> dict[str, Any]:
    chance = random.Random(2)
    figures: dict[str, Any] = {
        "interrupted": 0,
        "ended before": 0,
        "interrupts gone on after": 0,
        "ended by themselves": 0,
    }
    slowest = {"notice": 0.0, "end": 0.0}
    for turn in range(count):
        if turn % 4 == 3:
            outside = Outside(continued, turn)
            outside.wait("ready", END_S) or outside.fail("does not begin")
            while not outside.wait("seen", chance.random() * 0.03):
                if outside.is_dead():
                    # Hit in one of its own lines, outside of its `try`.
                    break
                os.kill(outside.pid, signal.SIGINT)
                figures["interrupts gone on after"] += 1
            if not outside.wait("seen", 0):
                figures["ended by themselves"] += 1
            elif not outside.events["seen"]["right"]:
                outside.fail("batches are lost or repeated")
        else:
            outside = Outside(interrupted, turn)
            outside.wait("ready", END_S) or outside.fail("does not begin")
            outside.wait("end", chance.random() * 0.3)
            hit = time.monotonic()
            # From a terminal it comes to the workers as well.
            (os.killpg if chance.random() < 0.3 else os.kill)(outside.pid, signal.SIGINT)
            if "end" in outside.events:
                figures["ended before"] += 1
            else:
                outside.wait("interrupted", PROMPT_S) or "end" in outside.events or outside.fail(
                    "Ctrl-C is not noticed"
                )
                figures["interrupted"] += 1
                slowest["notice"] = max(slowest["notice"], time.monotonic() - hit)
                outside.wait("left", END_S)
        slowest["end"] = max(slowest["end"], outside.see_the_end())
    return figures | slowest


def main() -> None:
    # What a program leaves behind becomes a child of this process.
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
    names = shared_names()
    started = time.monotonic()
    figures = {"kills": kill, "interrupts": interrupt}[sys.argv[1]](int(sys.argv[2]))
    mine = {name for name in shared_names() - names if str(os.getpid()) in name}
    if mine:
        sys.exit(f"names are left in /dev/shm: {mine}")
    print(json.dumps(figures | {"seconds": round(time.monotonic() - started)}))


if __name__ == "__main__":
    try:
        main()
    except Inside as inside:
        program = inside.run
    else:
        sys.exit()
    try:
        program()
    except BaseException:
        traceback.print_exc()
        raise
