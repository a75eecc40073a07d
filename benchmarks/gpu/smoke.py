"""On a machine with a GPU and only the wheel's files: import, batches, copies to the device. `python benchmarks/gpu/smoke.py`

Needs torch 2.11 or newer, numpy, and the packages `zenith` and `zenith_torch` on the path; no Rust, no pyarrow. Says so and
exits 0 where there is no GPU. Prints figures; they are of this machine and this moment.
"""

from __future__ import annotations

import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

SEQUENCE = 1024
BATCH = 512
KINDS = ("pageable", "pinned by torch", "born pinned")


def main() -> int:
    """0 if all went well or there is no GPU, 1 if a batch came out wrong."""
    import torch
    import zenith

    print(f"python {platform.python_version()}, torch {torch.__version__}, {' '.join(platform.libc_ver())}")
    for key, value in zenith.info().items():
        print(f"  {key:13} {value}")
    if not torch.cuda.is_available():
        print("no GPU here: nothing to show beyond the import. Exit 0")
        return 0
    print(f"GPU: {torch.cuda.get_device_name()}, CUDA {torch.version.cuda}")
    with tempfile.TemporaryDirectory() as folder:
        return run(Path(folder) / "tokens.bin")


def run(path: Path) -> int:
    """Reads a token file to the device, from pageable batches, from ones that torch pins, and from ones that are born pinned."""
    import numpy as np
    import torch

    corpus = np.random.default_rng(0).integers(0, 50_000, 64 << 20, dtype=np.uint16)
    corpus.tofile(path)
    expected = torch.from_numpy(corpus.astype(np.int64)).to("cuda")
    for kind in KINDS:
        # The second epoch finds pinned memory that the first one left; all that is written is checked in the first.
        if not epoch(path, kind, expected):
            return 1
        epoch(path, kind, None)
    return 0


def epoch(path: Path, kind: str, expected: torch.Tensor | None) -> bool:
    """Sends one epoch; compares it with `expected` where that is given, and else prints how fast it went."""
    import torch
    import zenith
    from zenith_torch import DataLoader

    dataset = zenith.Tokens(path, seq_len=SEQUENCE)
    loader = DataLoader(dataset, batch_size=BATCH, num_workers=2, pin_memory=kind == "born pinned")
    total = 0
    torch.cuda.synchronize()
    started, first = time.perf_counter(), 0.0
    for batch in loader:
        x = batch["x"].pin_memory() if kind == "pinned by torch" else batch["x"]
        if x.is_pinned() != (kind != "pageable"):
            print(f"WRONG: {kind} batches are not: {loader.explain()}", file=sys.stderr)
            return False
        on_device = x.to("cuda", non_blocking=True)
        first = first or time.perf_counter() - started
        count = on_device.numel()
        if expected is not None and not torch.equal(on_device.flatten(), expected[total : total + count]):
            print(f"WRONG: the batch at token {total} differs from the file", file=sys.stderr)
            return False
        total += count
    torch.cuda.synchronize()
    seconds = time.perf_counter() - started
    if expected is None:
        print(f"{kind}: {total:,} tokens, first batch {first * 1e3:.1f} ms, {total * 8 / seconds / 1e9:.2f} GB/s")
    return True


if __name__ == "__main__":
    sys.exit(main())
