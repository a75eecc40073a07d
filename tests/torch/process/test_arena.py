"""The arena under consumers of every habit: what they hold does not change, and memory does not grow."""

from __future__ import annotations

import random
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from process_support import Call, identity
from zenith_torch import DataLoader

STEPS = 400


def pattern(index: int) -> dict[str, Any]:
    """Tensors of sizes that look random, each full of its index."""
    chance = random.Random(index)
    sizes = [chance.choice([1, 10, 1000, 20_000, chance.randrange(1, 200_000)]) for _ in range(3)]
    return {f"t{i}": torch.full((size,), index, dtype=torch.int64) for i, size in enumerate(sizes)} | {"index": index}


def is_intact(batch: dict[str, Any]) -> bool:
    return all(bool((value == batch["index"]).all()) for key, value in batch.items() if key != "index")


def batches(steps: int = STEPS) -> Any:
    return DataLoader(Call(pattern, steps), batch_size=None, num_workers=2, collate_fn=identity, prefetch_factor=4)


def shared_bytes() -> int:
    """What of the arenas is in memory, as this process sees it."""
    total = 0
    is_arena = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split()[0]:
            is_arena = "zenith-arena" in line
        elif is_arena and line.startswith("Rss:"):
            total += int(line.split()[1]) << 10
    return total


def test_a_consumer_that_keeps_everything() -> None:
    kept = list(batches())
    assert all(map(is_intact, kept))


def test_a_consumer_that_drops_at_random() -> None:
    chance = random.Random(3)
    held: list[dict[str, Any]] = []
    for batch in batches():
        held.append(batch)
        while len(held) > 20 or (held and chance.random() < 0.4):
            dropped = held.pop(chance.randrange(len(held)))
            assert is_intact(dropped)
            for key in chance.sample(sorted(dropped), 2):
                # One tensor of a batch is kept when the others go.
                dropped.pop(key, None)
    assert all(map(is_intact, held))


def test_a_consumer_that_drops_in_other_threads() -> None:
    held: list[dict[str, Any]] = []
    failures: list[Any] = []
    is_over = threading.Event()

    def drop() -> None:
        while held or not is_over.is_set():
            try:
                batch = held.pop()
            except IndexError:
                continue
            if not is_intact(batch):
                failures.append(batch["index"])

    droppers = [threading.Thread(target=drop) for _ in range(3)]
    for dropper in droppers:
        dropper.start()
    for batch in batches():
        held.append(batch)
    is_over.set()
    for dropper in droppers:
        dropper.join()
    assert not failures


def test_memory_is_flat_over_many_steps() -> None:
    seen = []
    for number, batch in enumerate(batches(3 * STEPS)):
        assert is_intact(batch)
        if number in (STEPS, 3 * STEPS - 10):
            seen.append(shared_bytes())
    assert seen[1] < 1.5 * seen[0] + (16 << 20), seen


STARVED = """
    import resource, sys
    sys.path.insert(0, sys.argv[1])
    import torch
    from zenith_torch import DataLoader
    from test_arena import is_intact, pattern
    from process_support import Call, identity

    def limit(worker):
        if sys.argv[2] == "RLIMIT_AS":
            used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + (256 << 20),) * 2)

    if sys.argv[2] == "RLIMIT_FSIZE":
        size = int(sys.argv[3])
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    if sys.argv[2] == "RLIMIT_AS":
        resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[3]),) * 2)
    loader = DataLoader(Call(pattern, 60), batch_size=None, num_workers=2, collate_fn=identity, worker_init_fn=limit)
    kept = list(loader)
    print(len(kept), all(map(is_intact, kept)))
    # The process can still have memory for other things.
    print(len(bytearray(100 << 20)) >> 20)
"""


@pytest.mark.parametrize(
    ("limit", "size"), [("RLIMIT_FSIZE", 8 << 20), ("RLIMIT_AS", 6 << 30), ("RLIMIT_AS", 80 << 30)]
)
def test_where_there_is_no_room_batches_go_another_way(limit: str, size: int) -> None:
    command = [sys.executable, "-c", textwrap.dedent(STARVED), str(Path(__file__).parent), limit, str(size)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.stdout.split() == ["60", "True", "100"], done.stderr[-2000:]
