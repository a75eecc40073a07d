"""`zenith_torch.patch()`: which names change, and that all of them change back."""

from __future__ import annotations

import sys
import threading
from types import ModuleType

import pytest
import torch.utils.data
import torch.utils.data.dataloader
import zenith_torch
from torch.utils.data import TensorDataset

TORCHS = torch.utils.data.DataLoader


@pytest.fixture
def foreign(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module of somebody else that imported torch's loader."""
    module = ModuleType("foreign_trainer")
    exec("from torch.utils.data import DataLoader\ndef make(data): return DataLoader(data, batch_size=2)", vars(module))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


def test_the_name_means_ours_inside_and_torchs_outside(foreign: ModuleType) -> None:
    data = TensorDataset(torch.arange(5))
    with zenith_torch.patch():
        assert torch.utils.data.DataLoader is zenith_torch.DataLoader
        assert torch.utils.data.dataloader.DataLoader is zenith_torch.DataLoader
        loader = foreign.make(data)
    assert type(loader) is zenith_torch.DataLoader
    assert [batch[0].tolist() for batch in loader] == [[0, 1], [2, 3], [4]]
    assert torch.utils.data.DataLoader is torch.utils.data.dataloader.DataLoader is TORCHS
    assert type(foreign.make(data)) is TORCHS
    assert issubclass(zenith_torch.DataLoader, TORCHS)


def test_an_exception_restores_and_blocks_nest(foreign: ModuleType) -> None:
    def fail_inside() -> None:
        with zenith_torch.patch():
            with zenith_torch.patch():
                pass
            assert torch.utils.data.DataLoader is zenith_torch.DataLoader
            raise KeyError

    with pytest.raises(KeyError):
        fail_inside()
    assert torch.utils.data.DataLoader is TORCHS
    assert vars(foreign)["DataLoader"] is TORCHS


def test_the_last_of_several_threads_restores() -> None:
    inside, leave = threading.Barrier(2), threading.Event()

    def block() -> None:
        with zenith_torch.patch():
            inside.wait(10)
            leave.wait(10)

    thread = threading.Thread(target=block)
    thread.start()
    inside.wait(10)
    with zenith_torch.patch():
        pass
    assert torch.utils.data.DataLoader is zenith_torch.DataLoader
    leave.set()
    thread.join(10)
    assert torch.utils.data.DataLoader is TORCHS


def test_a_name_that_somebody_else_changed_meanwhile_is_left_alone(foreign: ModuleType) -> None:
    with zenith_torch.patch():
        vars(foreign)["DataLoader"] = "mine"
    assert vars(foreign)["DataLoader"] == "mine"
