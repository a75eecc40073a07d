"""What else a loader with a state is: small, copied amid an epoch, explained, and with iterators like torch's."""

from __future__ import annotations

import json
import pickle

import pytest
import torch.utils.data as data
from state_samplers import BATCH, SIZE
from state_streams import StatefulStream
from state_support import Numbers, values
from zenith_torch import DataLoader


def test_states_are_small_and_loaders_are_copied_amid_an_epoch() -> None:
    loader = DataLoader(Numbers(), batch_size=BATCH, shuffle=True, snapshot_every_n_steps=5)
    assert loader.snapshot_every_n_steps == 5
    iterator = iter(loader)
    next(iterator)
    assert len(json.dumps(loader.state_dict())) < 512
    clone = pickle.loads(pickle.dumps(loader))
    assert clone.state_dict() == loader.state_dict()
    loader.load_state_dict(loader.state_dict())
    assert values(pickle.loads(pickle.dumps(loader))) == values(iterator)


@pytest.mark.parametrize("workers", [0, 1])
def test_iterators_look_like_torchs(workers: int) -> None:
    ours, torchs = (iter(kind(Numbers(), num_workers=workers)) for kind in (DataLoader, data.DataLoader))
    assert isinstance(ours, type(torchs))
    assert type(ours).__name__ == type(torchs).__name__
    assert ours._profile_name == torchs._profile_name
    assert len(ours) == len(torchs) == SIZE
    with pytest.raises(NotImplementedError):
        pickle.dumps(ours)


def test_explain_names_the_iterator() -> None:
    text = DataLoader(Numbers(), num_workers=2).explain()
    assert "_MultiProcessingDataLoaderIter, 2 worker processes" in text
    assert "state: by position" in text
    assert "state: the dataset's own" in DataLoader(StatefulStream()).explain()
