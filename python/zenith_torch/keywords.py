"""Zenith's own keywords, on their way through libraries that rebuild a loader from the arguments that torch knows."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any

from torch.utils.data import BatchSampler

from zenith_torch.batching import innermost

if TYPE_CHECKING:
    from zenith_torch.loader import DataLoader

_NAME = "zenith_keywords"
_STAY = {"source", "rank", "world_size", "mesh", "process_group"}
"""The dataset is rebuilt with, and ranks are the sampler's or the library's business."""


def leave(loader: DataLoader[Any]) -> None:
    """Notes what was chosen on the loader's batch sampler, which a rebuilt loader is given."""
    given = {name: value for name, default in _own().items() if (value := getattr(loader, name)) != default}
    if given and type(loader.batch_sampler) is BatchSampler:
        setattr(loader.batch_sampler, _NAME, (loader.dataset, given))


def take_over(loader: DataLoader[Any], dataset: Any, batch_sampler: Any) -> None:
    """Gives a loader that is being made the choices of the one whose batch sampler it got, where it has none itself."""
    whose, left = getattr(innermost(batch_sampler), _NAME, (None, {}))
    if whose is not dataset:
        return
    defaults = _own()
    for name, value in left.items():
        if getattr(loader, name) == defaults[name]:
            setattr(loader, name, value)


@functools.cache
def _own() -> dict[str, Any]:
    """The keywords that torch's loader does not have, with their defaults."""
    from zenith_torch.loader import DataLoader

    torchs = inspect.signature(vars(DataLoader.__mro__[1])["__init__"]).parameters
    parameters = inspect.signature(DataLoader.__init__).parameters
    return {name: one.default for name, one in parameters.items() if name not in torchs and name not in _STAY}
