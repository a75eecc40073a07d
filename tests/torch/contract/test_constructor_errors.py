"""DL-3 to DL-5: combinations that the constructor refuses, in which order, and those that `iter` refuses."""

from __future__ import annotations

import gc
import multiprocessing
from multiprocessing.context import BaseContext
from typing import Any

import pytest
import torch
from contract_support import Numbers, Stream, values

Loader = type[torch.utils.data.DataLoader]

NEGATIVE_WORKERS = "num_workers option should be non-negative; use num_workers=0 to disable multiprocessing."
NEGATIVE_TIMEOUT = "timeout option should be non-negative"
LONE_PREFETCH = (
    "prefetch_factor option could only be specified in multiprocessing."
    "let num_workers > 0 to enable multiprocessing, otherwise set prefetch_factor to None."
)
LONE_PERSISTENT = "persistent_workers option needs num_workers > 0"
LONE_CONTEXT = (
    "multiprocessing_context can only be used with multi-process loading (num_workers > 0), but got num_workers=0"
)
STREAM = "DataLoader with IterableDataset: expected unspecified {0} option, but got {0}={1}"
SHUFFLED_SAMPLER = "sampler option is mutually exclusive with shuffle"
BATCH_SAMPLER = "batch_sampler option is mutually exclusive with batch_size, shuffle, sampler, and drop_last"
NO_BATCHES = "batch_size=None option disables auto-batching and is mutually exclusive with drop_last"

# Each argument is wrong by itself; the text is what the constructor says while it and all that follow are given.
STREAM_ORDER = [
    ("num_workers", -1, NEGATIVE_WORKERS),
    ("timeout", -1, NEGATIVE_TIMEOUT),
    ("prefetch_factor", 2, LONE_PREFETCH),
    ("persistent_workers", True, LONE_PERSISTENT),
    ("multiprocessing_context", "fork", LONE_CONTEXT),
    ("shuffle", True, STREAM.format("shuffle", True)),
    ("sampler", 3, STREAM.format("sampler", 3)),
    ("batch_sampler", 3, STREAM.format("batch_sampler", 3)),
    ("batch_size", None, NO_BATCHES),
]
MAP_ORDER = [
    *STREAM_ORDER[:5],
    ("shuffle", True, SHUFFLED_SAMPLER),
    ("batch_sampler", [[0]], BATCH_SAMPLER),
    ("batch_size", None, NO_BATCHES),
]


def text_of(loader_class: Loader, dataset: Any, kind: type[Exception] = ValueError, **arguments: Any) -> str:
    with pytest.raises(kind) as caught:
        loader_class(dataset, **arguments)
    assert type(caught.value) is kind
    return str(caught.value)


@pytest.mark.parametrize("first", range(len(STREAM_ORDER)))
def test_dl_03_checks_in_order_for_an_iterable_dataset(loader_class: Loader, first: int) -> None:
    arguments = {name: value for name, value, _ in STREAM_ORDER[first:]} | {"drop_last": True}
    assert text_of(loader_class, Stream(3), **arguments) == STREAM_ORDER[first][2]


@pytest.mark.parametrize("first", range(len(MAP_ORDER)))
def test_dl_03_checks_in_order_for_a_map_dataset(loader_class: Loader, first: int) -> None:
    arguments = {name: value for name, value, _ in MAP_ORDER[first:]} | {"drop_last": True, "sampler": range(3)}
    assert text_of(loader_class, Numbers(3), **arguments) == MAP_ORDER[first][2]


def test_dl_03_a_negative_prefetch_factor(loader_class: Loader) -> None:
    text = text_of(loader_class, Numbers(3), num_workers=1, prefetch_factor=-1)
    assert text == "prefetch_factor option should be non-negative"
    assert text_of(loader_class, Numbers(3), prefetch_factor=0) == LONE_PREFETCH


@pytest.mark.parametrize("shuffle", [False, None, 0])
def test_dl_03_an_iterable_dataset_may_be_told_not_to_shuffle(loader_class: Loader, shuffle: Any) -> None:
    assert values(loader_class(Stream(2), shuffle=shuffle)) == [[0], [1]]


@pytest.mark.parametrize("shuffle", [True, 1, "yes"])
def test_dl_03_an_iterable_dataset_is_not_shuffled(loader_class: Loader, shuffle: Any) -> None:
    assert text_of(loader_class, Stream(2), shuffle=shuffle) == STREAM.format("shuffle", shuffle)


@pytest.mark.parametrize("shuffle", [1, "yes", [0]])
def test_dl_03_a_truthy_shuffle_and_a_sampler(loader_class: Loader, shuffle: Any) -> None:
    assert text_of(loader_class, Numbers(3), shuffle=shuffle, sampler=range(3)) == SHUFFLED_SAMPLER
    assert values(loader_class(Numbers(3), shuffle=0, sampler=range(3))) == [[0], [1], [2]]


@pytest.mark.parametrize(
    "other",
    [{"batch_size": 2}, {"batch_size": None}, {"shuffle": True}, {"sampler": range(3)}, {"drop_last": True}],
    ids=str,
)
def test_dl_03_a_batch_sampler_stands_alone(loader_class: Loader, other: dict[str, Any]) -> None:
    assert text_of(loader_class, Numbers(3), batch_sampler=[[0]], **other) == BATCH_SAMPLER


def test_dl_03_a_batch_sampler_beside_the_defaults(loader_class: Loader) -> None:
    loader = loader_class(
        Numbers(3), batch_sampler=[[2, 0]], batch_size=1, shuffle=False, sampler=None, drop_last=False
    )
    assert values(loader) == [[2, 0]]


def test_dl_04_a_wrong_start_method(loader_class: Loader) -> None:
    methods = multiprocessing.get_all_start_methods()
    expected = (
        f"multiprocessing_context option should specify a valid start method in {methods!r}, but got "
        "multiprocessing_context='bad'"
    )
    assert text_of(loader_class, Numbers(3), num_workers=1, multiprocessing_context="bad") == expected


def test_dl_04_a_wrong_object(loader_class: Loader) -> None:
    expected = (
        "multiprocessing_context option should be a valid context object or a string specifying the start method, "
        "but got multiprocessing_context=3"
    )
    assert text_of(loader_class, Numbers(3), TypeError, num_workers=1, multiprocessing_context=3) == expected


@pytest.mark.parametrize(
    "value", ["fork", "bad", 3, 0, multiprocessing.get_context("fork")], ids=["fork", "bad", "3", "0", "one"]
)
def test_dl_04_without_workers(loader_class: Loader, value: Any) -> None:
    assert text_of(loader_class, Numbers(3), multiprocessing_context=value) == LONE_CONTEXT


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_dl_04_a_string_becomes_its_context(loader_class: Loader, method: str) -> None:
    loader = loader_class(Numbers(3), num_workers=1, multiprocessing_context=method)
    assert isinstance(loader.multiprocessing_context, BaseContext)
    assert loader.multiprocessing_context is torch.multiprocessing.get_context(method)


def test_dl_04_the_setter_checks_too(loader_class: Loader) -> None:
    loader = loader_class(Numbers(3), num_workers=1)
    assert loader.multiprocessing_context is None
    with pytest.raises(ValueError, match="should specify a valid start method in"):
        loader.multiprocessing_context = "bad"
    with pytest.raises(TypeError, match="should be a valid context object or a string"):
        loader.multiprocessing_context = 3
    loader.multiprocessing_context = "fork"
    assert loader.multiprocessing_context is torch.multiprocessing.get_context("fork")
    loader.multiprocessing_context = None
    assert loader.multiprocessing_context is None
    inline = loader_class(Numbers(3))
    with pytest.raises(ValueError, match=r"multi-process loading \(num_workers > 0\), but got num_workers=0"):
        inline.multiprocessing_context = "fork"


def test_dl_05_the_prefetch_factor(loader_class: Loader) -> None:
    assert loader_class(Numbers(3)).prefetch_factor is None
    assert loader_class(Numbers(3), num_workers=1).prefetch_factor == 2
    assert loader_class(Numbers(3), num_workers=1, prefetch_factor=5).prefetch_factor == 5
    assert loader_class(Numbers(3), num_workers=1, prefetch_factor=0).prefetch_factor == 0


# Torch's iterator, half made, leaves an AttributeError in its `__del__`; ours need not.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_dl_05_no_prefetching_at_all_is_refused_by_iter(loader_class: Loader) -> None:
    loader = loader_class(Numbers(3), num_workers=1, prefetch_factor=0)
    with pytest.raises(AssertionError, match="prefetch_factor must be greater than 0"):
        iter(loader)
    gc.collect()


def test_dl_05_a_timeout_without_workers_is_refused_by_iter(loader_class: Loader) -> None:
    loader = loader_class(Numbers(3), timeout=1)
    with pytest.raises(AssertionError, match="requires timeout == 0"):
        iter(loader)
