"""States that are damaged or of another loader are refused, and change nothing."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zenith
from state_samplers import BATCH, SIZE, Stateful
from state_streams import StatefulStream, Stream, WithIterator
from state_support import Numbers, through_json, values
from zenith_torch import DataLoader


def state_of(**more: Any) -> dict[str, Any]:
    return DataLoader(Numbers(), batch_size=BATCH, shuffle=True, **more).state_dict()


DAMAGED: dict[str, Callable[[dict[str, Any]], Any]] = {
    "expected, got list": lambda s: [s],
    "reads a Zenith dataset": lambda s: {"version": 1, "fingerprint": "0", "position": 0},
    "version 2": lambda s: {**s, "version": 2},
    "version None": lambda s: {k: v for k, v in s.items() if k != "version"},
    "kind 'other'": lambda s: {**s, "kind": "other"},
    "position is missing": lambda s: {k: v for k, v in s.items() if k != "position"},
    "position is '3'": lambda s: {**s, "position": "3"},
    "position is True": lambda s: {**s, "position": True},
    "negative": lambda s: {**s, "position": -1},
    "seed is 'x'": lambda s: {**s, "seed": "x"},
    "missing is": lambda s: {**s, "position": 3, "missing": [2, 1]},
    "dataset of 24 samples": lambda s: {**s, "length": 24},
    "batch_size=None, and this loader has 4": lambda s: {**s, "batch_size": None},
    "and some are missing": lambda s: {**s, "batch_size": 8, "position": 3, "missing": [1]},
    "offset is": lambda s: {**s, "offset": "x"},
    "not one for each worker": lambda s: {**s, "worker_states": [None]},
    "the order": lambda s: {**s, "order": "SequentialSampler"},
    "at_first is": lambda s: {**s, "at_first": 3},
    "not a random state": lambda s: {**s, "at_first": {"torch": 3}},
    "1 generators": lambda s: {**s, "generators": ["AAAA"]},
    "iterable kind": lambda s: {**s, "kind": "iterable"},
    "another sampler": lambda s: {**s, "sampler": {"number": 0, "sampler": {}, "iterator": None}},
}


@pytest.mark.parametrize("text", DAMAGED)
def test_refusals(text: str) -> None:
    loader = DataLoader(Numbers(), batch_size=BATCH, shuffle=True)
    values(itertools.islice(iter(loader), 2))
    before = loader.state_dict()
    with pytest.raises(zenith.StateError, match=text):
        loader.load_state_dict(DAMAGED[text](copy.deepcopy(before)))
    assert loader.state_dict() == before, "a refused state changes nothing"


def test_refusals_between_kinds(tokens_file: Path) -> None:
    tokens = zenith.Tokens(tokens_file, dtype="uint16", seq_len=64)
    native = DataLoader(tokens, batch_size=BATCH)
    with pytest.raises(zenith.StateError):
        native.load_state_dict(state_of())
    with pytest.raises(zenith.StateError, match="natively"):
        DataLoader(Numbers()).load_state_dict(native.state_dict())
    sampled = DataLoader(tokens, batch_size=BATCH, collate_fn=lambda samples: len(samples))
    sampled.load_state_dict(through_json(sampled.state_dict()))
    assert next(iter(sampled)) == BATCH
    streaming = DataLoader(Stream(), batch_size=BATCH, num_workers=2).state_dict()
    with pytest.raises(zenith.StateError, match="num_workers=2, not 0"):
        DataLoader(Stream(), batch_size=BATCH).load_state_dict(streaming)
    with pytest.raises(zenith.StateError, match="dataset that has a state_dict"):
        DataLoader(Stream()).load_state_dict(DataLoader(StatefulStream()).state_dict())
    asked = DataLoader(WithIterator())
    values(itertools.islice(iter(asked), 2))
    plain = DataLoader(Stream())
    plain.load_state_dict(asked.state_dict())
    with pytest.raises(zenith.StateError, match="whose iterator has a state_dict"):
        iter(plain)
    with pytest.raises(zenith.StateError, match="another sampler"):
        DataLoader(Numbers(), batch_size=BATCH, sampler=range(SIZE)).load_state_dict(
            {
                **DataLoader(Numbers(), batch_size=BATCH, sampler=Stateful()).state_dict(),
                "order": "BatchSampler of range",
            }
        )


def test_another_batch_size_is_refused_where_it_cannot_be_exact() -> None:
    stateful = DataLoader(Numbers(), batch_size=BATCH, sampler=Stateful()).state_dict()
    with pytest.raises(zenith.StateError, match=r"batch_size=4, and this loader has 5.*belongs to whole batches"):
        DataLoader(Numbers(), batch_size=5, sampler=Stateful()).load_state_dict(stateful)
    with pytest.raises(zenith.StateError, match=r"batch_size=4, and this loader has 5.*iterable"):
        DataLoader(Stream(), batch_size=5).load_state_dict(DataLoader(Stream(), batch_size=BATCH).state_dict())


@pytest.mark.parametrize("every", [-1, True, 1.5, "1"])
def test_snapshots_every_nonsense(every: Any) -> None:
    with pytest.raises(ValueError, match="snapshot_every_n_steps"):
        DataLoader(Numbers(), snapshot_every_n_steps=every)
