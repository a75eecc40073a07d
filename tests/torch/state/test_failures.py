"""States after a batch that failed, or that was interrupted."""

from __future__ import annotations

import pytest
from state_samplers import BATCH
from state_support import Numbers, values
from zenith_torch import DataLoader


@pytest.mark.parametrize("workers", [0, 2])
def test_a_batch_that_failed_is_not_asked_for_again(workers: int) -> None:
    class Failing(Numbers):
        def __getitem__(self, index: int) -> int:
            if index == 5:
                raise KeyError("no such sample")
            return index

    loader = DataLoader(Failing(), batch_size=BATCH, num_workers=workers)
    iterator = iter(loader)
    next(iterator)
    with pytest.raises(KeyError):
        next(iterator)
    resumed = DataLoader(Failing(), batch_size=BATCH, num_workers=workers)
    resumed.load_state_dict(loader.state_dict())
    assert values(resumed)[0] == [8, 9, 10, 11]


def test_an_interrupted_batch_is_asked_for_again() -> None:
    class Interrupted(Numbers):
        def __getitem__(self, index: int) -> int:
            if index == 5:
                raise KeyboardInterrupt
            return index

    loader = DataLoader(Interrupted(), batch_size=BATCH)
    iterator = iter(loader)
    next(iterator)
    with pytest.raises(KeyboardInterrupt):
        next(iterator)
    resumed = DataLoader(Numbers(), batch_size=BATCH)
    resumed.load_state_dict(loader.state_dict())
    assert values(resumed)[0] == [4, 5, 6, 7]
