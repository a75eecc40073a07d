"""On a machine with a GPU: do copies that come late read what was in the batch? `python benchmarks/gpu/lifetime.py`

Needs torch 2.11 or newer with CUDA, numpy, and the packages `zenith` and `zenith_torch` on the path; no Rust, no pyarrow. Says
so and exits 0 where there is no GPU, and 1 where something came out wrong. Three things are looked at:

1. the trap: memory that is page-locked, but not by torch's allocator, is overwritten while a copy waits. It must come out
   wrong, or this script would prove nothing;
2. the loader: `x.to("cuda", non_blocking=True); del x` on streams of the user's own, behind long kernels;
3. the fence: that `cuCtxRecordEvent` waits for streams that the default stream does not wait for, which memory that Zenith
   page-locks itself relies on.
"""

from __future__ import annotations

import ctypes
import sys
import tempfile
from pathlib import Path

SEQUENCE = 4096
BATCH = 64
# Some tens of milliseconds, and half a second.
SHORT_CYCLES = 50_000_000
LONG_CYCLES = 1_000_000_000
NOT_READY = 600


def main() -> int:
    """0 if all went well or there is no GPU."""
    import torch

    if not torch.cuda.is_available():
        print("no GPU here: nothing to show. Exit 0")
        return 0
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, CUDA {torch.version.cuda}")
    with tempfile.TemporaryDirectory() as folder:
        outcomes = {
            "the trap shows without protection": trap(),
            "the loader's batches arrive unchanged": loader(Path(folder) / "tokens.bin"),
            "a fence waits for all streams": fence(),
        }
    for what, outcome in outcomes.items():
        print(f"{'ok   ' if outcome else 'WRONG'} {what}")
    return 0 if all(outcomes.values()) else 1


def trap() -> bool:
    """Whether memory that torch did not allocate is read after it was dropped and overwritten."""
    import numpy as np
    import torch

    memory = np.ones(1 << 20, dtype=np.int64)
    runtime = torch.cuda.cudart()
    assert int(runtime.cudaHostRegister(memory.ctypes.data, memory.nbytes, 1)) == 0
    try:
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            torch.cuda._sleep(LONG_CYCLES)
            on_device = torch.from_numpy(memory).to("cuda", non_blocking=True)
        memory.fill(-1)
        stream.synchronize()
        return bool((on_device == -1).all())
    finally:
        runtime.cudaHostUnregister(memory.ctypes.data)


def loader(path: Path) -> bool:
    """Whether every batch of two epochs arrives, copied on two streams and dropped at once."""
    import numpy as np
    import torch
    import zenith
    from zenith_torch import DataLoader

    corpus = np.random.default_rng(0).integers(0, 50_000, 8 << 20, dtype=np.uint16)
    corpus.tofile(path)
    expected = torch.from_numpy(corpus.astype(np.int64))
    batches = DataLoader(zenith.Tokens(path, seq_len=SEQUENCE), batch_size=BATCH, num_workers=2, pin_memory=True)
    streams = [torch.cuda.Stream(), torch.cuda.Stream()]
    for _ in range(2):
        arrived = []
        for number, batch in enumerate(batches):
            if not batch["x"].is_pinned():
                print(f"batch {number} is not pinned: {batches.explain()}", file=sys.stderr)
                return False
            with torch.cuda.stream(streams[number % 2]):
                torch.cuda._sleep(SHORT_CYCLES)
                arrived.append(batch["x"].to("cuda", non_blocking=True))
            del batch
        torch.cuda.synchronize()
        seen = torch.cat([part.flatten() for part in arrived]).cpu()
        if not torch.equal(seen, expected[: len(seen)]):
            return False
    return True


def fence() -> bool:
    """Whether an event behind the context is not ready before a non-blocking stream is, and ready after it."""
    import torch

    driver = ctypes.CDLL("libcuda.so.1")
    if not hasattr(driver, "cuCtxRecordEvent"):
        print("the driver is older than CUDA 12.5: Zenith would page-lock nothing itself")
        return True

    def call(name: str, *arguments: object) -> None:
        if code := getattr(driver, name)(*arguments):
            raise RuntimeError(f"{name} failed with {code}")

    device, context, event = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_void_p()
    call("cuDeviceGet", ctypes.byref(device), torch.cuda.current_device())
    call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
    call("cuCtxPushCurrent_v2", context)
    call("cuEventCreate", ctypes.byref(event), 2)
    try:
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            torch.cuda._sleep(LONG_CYCLES)
        call("cuCtxRecordEvent", context, event)
        before = driver.cuEventQuery(event)
        stream.synchronize()
        after = driver.cuEventQuery(event)
        return before == NOT_READY and after == 0
    finally:
        call("cuEventDestroy_v2", event)
        call("cuCtxPopCurrent_v2", ctypes.byref(ctypes.c_void_p()))
        call("cuDevicePrimaryCtxRelease_v2", device)


if __name__ == "__main__":
    sys.exit(main())
