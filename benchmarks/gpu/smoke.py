"""On a machine with a GPU and only the wheel's files: import, batches, a copy to the device. `python benchmarks/gpu/smoke.py`

Needs torch 2.11 or newer, numpy, and the packages `zenith` and `zenith_torch` on the path; no Rust, no pyarrow. Says so and
exits 0 where there is no GPU. Prints figures; they are of this machine and this moment.
"""

from __future__ import annotations

import platform
import sys
import tempfile
import time
from pathlib import Path

SEQUENCE = 1024
BATCH = 64


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
    """Reads a token file of 32 MiB to the device twice: from pageable and from pinned batches."""
    import numpy as np
    import torch
    import zenith
    from zenith_torch import DataLoader

    corpus = np.random.default_rng(0).integers(0, 50_000, 16 << 20, dtype=np.uint16)
    corpus.tofile(path)
    expected = torch.from_numpy(corpus.astype(np.int64))
    dataset = zenith.Tokens(path, seq_len=SEQUENCE)
    for pin in (False, True):
        loader = DataLoader(dataset, batch_size=BATCH, num_workers=2, pin_memory=pin)
        started, first, total, sent = time.perf_counter(), 0.0, 0, 0
        for batch in loader:
            on_device = batch["x"].to("cuda", non_blocking=pin)
            torch.cuda.synchronize()
            first = first or time.perf_counter() - started
            count = on_device.numel()
            if not torch.equal(on_device.cpu().flatten(), expected[total : total + count]):
                print(f"WRONG: the batch at token {total} differs from the file", file=sys.stderr)
                return 1
            total, sent = total + count, sent + count * on_device.element_size()
        seconds = time.perf_counter() - started
        kind = "pinned" if pin else "pageable"
        print(f"{kind}: {total:,} tokens, first batch {first * 1e3:.1f} ms, {sent / seconds / 1e9:.2f} GB/s, checked")
    return 0


if __name__ == "__main__":
    sys.exit(main())
