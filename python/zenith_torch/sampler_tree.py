"""What an index sampler is made of: the samplers inside it, and the generators that its order may depend on."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch.utils.data import BatchSampler, DistributedSampler, RandomSampler, SequentialSampler

from zenith_torch import randomness
from zenith_torch.sampler import PlanSampler

_PLAIN = (BatchSampler, SequentialSampler, RandomSampler, DistributedSampler, PlanSampler, range, list, tuple)
"""Types whose draws are known: none, one seed, or those of their own generator."""

_ARGUMENTS: dict[type, tuple[str, ...]] = {
    RandomSampler: ("replacement", "num_samples"),
    DistributedSampler: ("num_replicas", "shuffle", "seed"),
    PlanSampler: ("num_replicas", "shuffle"),
}
"""What another order would come from. The rank is none: ranks may share a state."""

_DEPTH_MAX = 8
"""How many samplers may wrap each other before the search for generators ends."""


def is_stateful(thing: Any) -> bool:
    """Whether it has ``state_dict()`` and ``load_state_dict()`` of its own."""
    return callable(getattr(thing, "state_dict", None)) and callable(getattr(thing, "load_state_dict", None))


def keeps_dataset_state(dataset: Any) -> bool:
    """Whether the dataset itself is asked for its state; one that is its own iterator is asked as such, under way."""
    return is_stateful(dataset) and not hasattr(dataset, "__next__")


def restore_dataset(dataset: Any, state: Any, at_end: bool) -> None:
    """Gives a dataset its state back before anything iterates it."""
    dataset.load_state_dict(copy.deepcopy(state))
    if at_end and next(iter(dataset), _END) is not _END:
        # Loaded with the state of its end, it ends once before it begins anew, or it begins anew by itself.
        dataset.load_state_dict(copy.deepcopy(state))


_END = object()


class SamplerTree:
    """A sampler with those it wraps, outermost first, and the generators that the order may depend on."""

    def __init__(self, sampler: Any, generator: torch.Generator | None) -> None:
        self.chain = [sampler]
        while len(self.chain) < _DEPTH_MAX and (inner := _wrapped(self.chain[-1])) is not None:
            self.chain.append(inner)
        self.leaf = self.chain[-1]
        found = [generator, *(getattr(part, "generator", None) for part in self.chain)]
        draws_itself = any(one is torch.default_generator for one in found[1:])
        self.is_plain = all(type(part) in _PLAIN for part in self.chain) and not draws_itself
        self.draws_seed = self.is_plain and type(self.leaf) is RandomSampler and self.leaf.generator is None
        unique = {id(one): one for one in found if isinstance(one, torch.Generator)}
        self.generators = [one for one in unique.values() if one is not torch.default_generator]

    @property
    def name(self) -> str:
        """The types, outermost first; a state is of one such tree only."""
        return " of ".join(_named(part) for part in self.chain)

    @property
    def distributed(self) -> DistributedSampler[Any] | None:
        """The sampler whose epoch the order depends on."""
        return next((part for part in self.chain if isinstance(part, DistributedSampler)), None)

    @property
    def stateful(self) -> Any:
        """The sampler that keeps a state itself. Torch's ``BatchSampler`` draws no further than its batch reaches."""
        outer = self.chain[0]
        if is_stateful(outer):
            return outer
        inner = outer.sampler if type(outer) is BatchSampler else None
        return inner if is_stateful(inner) else None

    def globals(self) -> dict[str, str]:
        """The states of the process's generators, unless the samplers are known not to draw from them."""
        return {} if self.is_plain else randomness.take_globals()


def _wrapped(sampler: Any) -> Any:
    """The sampler inside: torch's batch sampler has a ``sampler``, Accelerate's have a ``batch_sampler``."""
    inner = getattr(sampler, "sampler", None)
    return getattr(sampler, "batch_sampler", None) if inner is None else inner


def _named(sampler: Any) -> str:
    """The type and the arguments that count."""
    kind = type(sampler)
    values = [f"{name}={getattr(sampler, name)}" for name in _ARGUMENTS.get(kind, ())]
    return f"{kind.__name__}({', '.join(values)})" if values else kind.__name__
