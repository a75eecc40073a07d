"""DL-1 and DL-2: the constructor's signature, and what libraries that rebuild a loader need of it."""

from __future__ import annotations

import inspect
import typing
from typing import Any

import pytest
import torch
from contract_support import Numbers, identity, values
from torch.utils.data import BatchSampler

Loader = type[torch.utils.data.DataLoader]

DEFAULTS = {
    "batch_size": 1,
    "shuffle": None,
    "sampler": None,
    "batch_sampler": None,
    "num_workers": 0,
    "collate_fn": None,
    "pin_memory": False,
    "drop_last": False,
    "timeout": 0,
    "worker_init_fn": None,
    "multiprocessing_context": None,
    "generator": None,
    "prefetch_factor": None,
    "persistent_workers": False,
    "pin_memory_device": "",
    "in_order": True,
}
KEYWORDS = ("prefetch_factor", "persistent_workers", "pin_memory_device", "in_order")


def arguments() -> dict[str, Any]:
    """A value other than the default for each argument that is stored; together they are allowed."""
    return {
        "dataset": Numbers(10),
        "batch_size": 3,
        "sampler": range(8),
        "num_workers": 1,
        "collate_fn": identity,
        "pin_memory": True,
        "drop_last": True,
        "timeout": 7,
        "worker_init_fn": identity,
        "multiprocessing_context": torch.multiprocessing.get_context("fork"),
        "generator": torch.Generator(),
        "prefetch_factor": 5,
        "persistent_workers": True,
        "pin_memory_device": "cuda",
        "in_order": False,
    }


@pytest.mark.parametrize("target", ["class", "method", "instance"])
def test_dl_01_names_order_kinds_and_defaults(loader_class: Loader, target: str) -> None:
    owner = {
        "class": lambda: loader_class,
        "method": lambda: loader_class.__init__,
        "instance": lambda: loader_class(Numbers(1)).__init__,
    }[target]()
    parameters = [p for p in inspect.signature(owner).parameters.values() if p.name != "self"]
    assert [p.name for p in parameters[:17]] == ["dataset", *DEFAULTS]
    for parameter in parameters[1:17]:
        kind = parameter.KEYWORD_ONLY if parameter.name in KEYWORDS else parameter.POSITIONAL_OR_KEYWORD
        assert parameter.kind is kind, parameter.name
        assert parameter.default == DEFAULTS[parameter.name], parameter.name
        assert type(parameter.default) is type(DEFAULTS[parameter.name]), parameter.name
    for parameter in parameters[17:]:
        assert parameter.kind is parameter.KEYWORD_ONLY, parameter.name
        assert parameter.default is not parameter.empty, parameter.name


def test_dl_01_thirteen_are_positional(loader_class: Loader) -> None:
    given = arguments()
    order = ("dataset", "batch_size", "shuffle", "sampler", "batch_sampler", "num_workers", "collate_fn", "pin_memory")
    order += ("drop_last", "timeout", "worker_init_fn", "multiprocessing_context", "generator")
    loader = loader_class(*(given.get(name) for name in order))
    for name in order:
        if name not in ("shuffle", "batch_sampler"):
            assert getattr(loader, name) is given[name], name
    with pytest.raises(TypeError, match="positional argument"):
        loader_class(*(given.get(name) for name in order), 2)


def test_dl_01_a_dataset_is_needed(loader_class: Loader) -> None:
    with pytest.raises(TypeError):
        loader_class()
    with pytest.raises(TypeError, match="unexpected keyword argument 'workers'"):
        loader_class(Numbers(1), workers=1)


def test_dl_02_it_is_a_generic_subclass_of_torchs(loader_class: Loader) -> None:
    assert issubclass(loader_class, torch.utils.data.DataLoader)
    assert isinstance(loader_class(Numbers(1)), torch.utils.data.DataLoader)
    assert typing.get_origin(loader_class[int]) is loader_class
    assert typing.get_args(loader_class[int]) == (int,)

    class Mine(loader_class[int]):  # type: ignore[valid-type, misc]
        pass

    assert values(Mine(Numbers(3))) == [[0], [1], [2]]
    assert values(loader_class[int](Numbers(2))) == [[0], [1]]


def test_dl_02_every_argument_is_a_public_attribute(loader_class: Loader) -> None:
    given = arguments()
    loader = loader_class(**given)
    for name, value in given.items():
        assert getattr(loader, name) is value, name
        assert name in vars(loader) or name == "multiprocessing_context", name
    assert not hasattr(loader, "shuffle")
    default = loader_class(given["dataset"])
    for name, parameter in inspect.signature(loader_class).parameters.items():
        if name not in ("dataset", "shuffle", "sampler", "batch_sampler", "collate_fn"):
            assert getattr(default, name) == parameter.default, name


def test_dl_02_it_is_rebuilt_as_lightning_does(loader_class: Loader) -> None:
    given = arguments()
    loader = loader_class(**given)
    attributes = {name: value for name, value in vars(loader).items() if not name.startswith("_")}
    attributes["multiprocessing_context"] = loader.multiprocessing_context
    parameters = inspect.signature(loader.__init__).parameters
    assert not [p for p in parameters.values() if p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    kept = {name for name, p in parameters.items() if name in attributes and p.default != attributes[name]}
    assert kept == {*given, "batch_sampler"}
    # What wraps a sampler (a DistributedSampler, say) comes in place of both.
    kept -= {"batch_sampler"}
    rebuilt = type(loader)(**{name: attributes[name] for name in kept} | {"sampler": range(4), "shuffle": False})
    assert rebuilt.sampler == range(4)
    for name in kept - {"sampler"}:
        assert getattr(rebuilt, name) is getattr(loader, name), name


def test_dl_02_it_is_rebuilt_as_accelerate_does(loader_class: Loader) -> None:
    loader = loader_class(Numbers(10), batch_size=4, drop_last=True)
    names = set(DEFAULTS) - {"shuffle", "sampler", "batch_sampler", "batch_size", "drop_last"}
    rebuilt = loader_class(
        loader.dataset,
        batch_sampler=BatchSampler(loader.sampler, loader.batch_size, loader.drop_last),
        **{name: getattr(loader, name) for name in names},
    )
    assert values(rebuilt) == values(loader) == [[0, 1, 2, 3], [4, 5, 6, 7]]
