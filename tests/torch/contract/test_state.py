"""DL-66 and DL-68: where a loader stands, for any dataset. Torch's loader has no state; torchdata's is the model."""

from __future__ import annotations

import pytest
import torch
from contract_states import BATCHES, SIZE, shuffled, take
from contract_support import Numbers, only_zenith, values

Loader = type[torch.utils.data.DataLoader]
both = pytest.mark.parametrize("workers", [0, 2])


@only_zenith
@both
def test_dl_66_the_state_before_the_first_batch(loader_class: Loader, workers: int) -> None:
    loader = shuffled(loader_class, workers)
    state = loader.state_dict()
    assert isinstance(state, dict)
    assert state
    expected = values(loader)
    again = shuffled(loader_class, workers)
    again.load_state_dict(state)
    assert values(again) == expected


@only_zenith
@both
@pytest.mark.parametrize("taken", [1, 3, BATCHES - 1, BATCHES])
def test_dl_66_a_load_continues_where_the_state_was_taken(loader_class: Loader, workers: int, taken: int) -> None:
    expected = values(shuffled(loader_class, workers))
    loader = shuffled(loader_class, workers)
    iterator = iter(loader)
    assert take(iterator, taken) == expected[:taken]
    state = loader.state_dict()
    again = shuffled(loader_class, workers)
    again.load_state_dict(state)
    # Nothing is left of an epoch whose last batch was handed out.
    assert values(again) == expected[taken:]
    assert len(values(again)) == BATCHES
    assert values(iterator) == expected[taken:]


@only_zenith
@both
def test_dl_66_after_the_end_comes_a_new_epoch(loader_class: Loader, workers: int) -> None:
    loader = shuffled(loader_class, workers)
    values(loader)
    state = loader.state_dict()
    expected = values(loader)
    assert len(expected) == BATCHES
    again = shuffled(loader_class, workers)
    again.load_state_dict(state)
    assert values(again) == expected


@only_zenith
@both
def test_dl_66_an_empty_state_is_a_fresh_start(loader_class: Loader, workers: int) -> None:
    loader = shuffled(loader_class, workers, shuffle=False)
    loader.load_state_dict({})
    assert values(loader) == values(torch.utils.data.DataLoader(Numbers(SIZE), batch_size=2))


@only_zenith
@both
def test_dl_66_a_load_is_for_the_next_iterator(loader_class: Loader, workers: int) -> None:
    expected = values(shuffled(loader_class, workers))
    loader = shuffled(loader_class, workers)
    iterator = iter(loader)
    take(iterator, 2)
    state = loader.state_dict()
    loader.load_state_dict(state)
    assert take(iterator, 1) == [expected[2]]
    assert values(loader) == expected[2:]


@only_zenith
@pytest.mark.parametrize("factor", [1, 3])
def test_dl_68_the_state_is_of_what_was_handed_out(loader_class: Loader, factor: int) -> None:
    expected = values(shuffled(loader_class, 2))
    loader = shuffled(loader_class, 2, prefetch_factor=factor)
    iterator = iter(loader)
    states = [loader.state_dict()]
    for _ in range(4):
        take(iterator, 1)
        states.append(loader.state_dict())
    for taken, state in enumerate(states):
        again = shuffled(loader_class, 2, prefetch_factor=factor)
        again.load_state_dict(state)
        assert values(again) == expected[taken:]
