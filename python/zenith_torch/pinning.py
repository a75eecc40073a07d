"""`pin_memory=True` of a native loader: what torch warns of, and whether batches are written straight into pinned memory."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

if TYPE_CHECKING:
    from zenith_torch.loader import DataLoader


class Pinning(NamedTuple):
    """How the batches of an iterator are pinned, if they are."""

    wanted: bool
    """Whether tensors are to lie in pinned memory."""
    direct: bool
    """Whether the engine writes them there. If not, torch's ``pin_memory()`` copies them."""
    account: str
    """For people."""


OFF = Pinning(False, False, "off")


def begin(loader: DataLoader[Any]) -> Pinning:
    """Decides for a new iterator, and warns as torch does at each one.

    Asks torch for pinned memory in this thread, and so with its device: decode threads would create a context on device 0
    where there is none yet, and what speaks against CUDA in this process (a fork, say) is torch's to explain.
    """
    pinning = _look(loader, stacklevel=4)
    if pinning.wanted and (refusal := _refusal()) is not None:
        return Pinning(True, False, f"torch's pin_memory() copies each batch: {refusal}")
    return pinning


def expect(loader: DataLoader[Any]) -> Pinning:
    """What `begin` would find, as far as can be told without making a context on a device; warns of nothing."""
    return _look(loader, stacklevel=None)


def _look(loader: DataLoader[Any], stacklevel: int | None) -> Pinning:
    def warn(text: str) -> None:
        if stacklevel is not None:
            warnings.warn(text, stacklevel=stacklevel + 1)

    if not loader.pin_memory:
        return OFF
    if loader.pin_memory_device:
        warn(
            "pin_memory_device is deprecated, the current accelerator will be used as the device,"
            f"ignore pin_memory_device='{loader.pin_memory_device}'."
        )
    if not torch.accelerator.is_available():
        warn(
            "'pin_memory' argument is set as true but no accelerator is found, then device pinned memory won't be used."
        )
        return Pinning(False, False, "off: no accelerator is found")
    accelerator = torch.accelerator.current_accelerator()
    if accelerator is not None and accelerator.type == "mps":
        warn("'pin_memory' argument is set as true but not supported on MPS now, device pinned memory won't be used.")
        return Pinning(False, False, "off: torch does not support it on MPS")
    return Pinning(True, True, "batches are written into pinned memory of torch")


def _refusal() -> str | None:
    """Why torch has no pinned memory here; ``None`` if it has."""
    try:
        torch.empty(1, device="cpu", pin_memory=True)
    except Exception as error:
        return str(error).partition("\n")[0]
    return None
