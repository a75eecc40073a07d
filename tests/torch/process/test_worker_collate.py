"""Collation in workers gives what torch's `default_collate` gives, whatever the samples are made of; DL-57 says where not."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import default_collate
from zenith_torch.process.collate import Collate

NUMBERS = st.one_of(
    st.integers(-(2**63), 2**63 - 1), st.integers(-(2**70), 2**70), st.floats(allow_nan=True), st.booleans(), st.none()
)
LEAVES = st.one_of(NUMBERS, st.text(max_size=2), st.binary(max_size=2))


def outcome(function: Any, batch: Any) -> Any:
    try:
        return function(batch)
    except Exception as error:
        return type(error), str(error)


def same(got: Any, expected: Any) -> bool:
    if isinstance(expected, torch.Tensor):
        return (
            type(got) is type(expected)
            and got.dtype == expected.dtype
            and got.shape == expected.shape
            and got.stride() == expected.stride()
            and torch.equal(got.nan_to_num(nan=7.5), expected.nan_to_num(nan=7.5))
            and torch.equal(got.isnan(), expected.isnan())
        )
    if type(got) is not type(expected):
        return False
    if isinstance(expected, dict):
        return list(got) == list(expected) and all(same(got[key], expected[key]) for key in expected)
    if isinstance(expected, (list, tuple)):
        return len(got) == len(expected) and all(map(same, got, expected))
    return bool(got == expected) or (isinstance(got, float) and math.isnan(got) and math.isnan(expected))


def samples_of(kinds: Any) -> Any:
    return st.lists(kinds, min_size=1, max_size=6)


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        samples_of(LEAVES),
        samples_of(st.tuples(NUMBERS, NUMBERS)),
        samples_of(st.tuples(st.integers(-5, 5), st.floats(0, 1), st.text(max_size=1))),
        samples_of(st.lists(st.integers(-5, 5), max_size=3)),
        samples_of(st.dictionaries(st.sampled_from("ab"), NUMBERS, max_size=2)),
        samples_of(st.tuples(st.tuples(st.integers(0, 3)), st.lists(st.floats(0, 1), min_size=1, max_size=1))),
    )
)
def test_any_samples(batch: list[Any]) -> None:
    got, expected = outcome(Collate(None), batch), outcome(default_collate, batch)
    assert same(got, expected), (got, expected)


@pytest.mark.parametrize(
    "batch",
    [
        [torch.ones(2), torch.zeros(2)],
        [torch.ones(2, 3).t(), torch.zeros(3, 2)],
        [torch.ones(2), torch.ones(3)],
        [torch.ones(2), 5],
        [np.ones(3), np.zeros(3)],
        [np.array(["a"]), np.array(["b"])],
        [np.float32(1), np.float32(2)],
        [(torch.ones(1), 1, "a"), (torch.zeros(1), 2, "b")],
        [{"a": torch.ones(1)}, {"b": torch.ones(1)}],
        [(1, 2), (1,)],
        [(), ()],
        [{}, {}],
        [set(), set()],
        [],
    ],
    ids=str,
)
def test_samples_of_tensors_and_arrays(batch: list[Any]) -> None:
    got, expected = outcome(Collate(None), batch), outcome(default_collate, batch)
    assert same(got, expected), (got, expected)


def test_subclasses_go_to_torch() -> None:
    class Number(int):
        pass

    class Pair(tuple[int, int]):
        pass

    for batch in ([Number(1), Number(2)], [(Number(1), 2.0), (Number(3), 4.0)], [Pair((1, 2)), Pair((3, 4))]):
        assert same(outcome(Collate(None), batch), outcome(default_collate, batch))
