"""Loads the torch ops of Zenith and gives them Python signatures."""

from __future__ import annotations

import re

TORCH_FLOOR = (2, 11)
"""Oldest torch the binary runs on; stated for the compiler in cpp/torch/stable_abi.h."""

try:
    import torch  # First: the module below finds libtorch_cpu among the libraries that this loads.
except ImportError as error:
    raise ImportError(
        "zenith_torch needs PyTorch 2.11 or newer, and `import torch` failed "
        f"({error}). Install it, for instance with `pip install torch`. `import zenith` works without it."
    ) from error

_version = tuple(int(part) for part in re.findall(r"\d+", torch.__version__)[:2])
if _version < TORCH_FLOOR:
    raise ImportError(f"zenith_torch needs PyTorch 2.11 or newer, this is {torch.__version__}. Upgrade torch.")

from zenith import _engine  # noqa: E402  (before the module that links to it: its absence is explained better)

try:
    import zenith_torch._C  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "zenith_torch._C":
        raise
    raise ImportError(
        "zenith_torch/_C.abi3.so is missing: Zenith was installed where torch was not. "
        "Reinstall it now that torch is here."
    ) from error

BATCH, PENDING, END, ERROR, TENSORS = range(5)
"""What a call of `next_batch` came to."""

_next_batch = torch.ops.zenith.next_batch.default
_arena_put = torch.ops.zenith.arena_put.default


def next_batch(loader: int, wait_ms: int) -> tuple[list[torch.Tensor], int]:
    """The next batch of a loader: its fields as CPU tensors, and `BATCH`, `TENSORS`, `PENDING` or `END`.

    The tensors alias memory of the engine, which gets it back when the last view of a tensor is gone; those of `TENSORS` are
    all torch's own, in pinned memory. Waits at most
    ``wait_ms`` milliseconds, without the GIL. Raises the `zenith.ZenithError` of the loader if it failed.
    """
    fields, status = _next_batch(loader, wait_ms)
    if status == ERROR:
        raise _engine.take_error()
    return fields, status


def arena_put(arena: int, tensors: list[torch.Tensor]) -> bool:
    """Puts CPU tensors into the arena of a worker, to be sent (`_engine.ArenaWriter.descriptors`).

    One that was made there is not copied. ``False``: a tensor is not contiguous, of a dtype that the engine does not have, or
    shares memory with another; or there is no room.
    """
    return _arena_put(arena, tensors)  # type: ignore[no-any-return]
