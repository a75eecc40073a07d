"""`pin_memory=True` of native loaders: batches are written into pinned tensors of torch's own, and are the same batches.

Where there is no accelerator its place is taken by a test hook: torch's allocator is asked for ordinary tensors instead.
"""

from __future__ import annotations

import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import zenith
from zenith import _engine
from zenith_torch import DataLoader, pinning

NO_ACCELERATOR = (
    "'pin_memory' argument is set as true but no accelerator is found, then device pinned memory won't be used."
)
NOT_ON_MPS = "'pin_memory' argument is set as true but not supported on MPS now, device pinned memory won't be used."
OLD_DEVICE = (
    "pin_memory_device is deprecated, the current accelerator will be used as the device,"
    "ignore pin_memory_device='cuda'."
)

both = pytest.mark.parametrize("workers", [0, 2])
on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="is about machines without a GPU")


@pytest.fixture
def accelerator(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """Pretends that there is one whose pinned memory torch has; tells what ``Tensor.pin_memory()`` copied."""
    copied: list[torch.Tensor] = []

    def pin(tensor: torch.Tensor) -> torch.Tensor:
        if is_torchs_own(tensor):
            return tensor
        copied.append(tensor)
        return tensor.clone()

    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    monkeypatch.setattr(pinning, "_refusal", lambda: None)
    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    return copied


@pytest.fixture
def stand_ins() -> Iterator[Any]:
    """Asks torch for ordinary tensors where pinned ones are wanted, as many as are said; more are refused."""
    yield _engine._test_tensors
    _engine._test_tensors(None)


def is_torchs_own(tensor: torch.Tensor) -> bool:
    """Whether the storage is of torch's allocator: one over memory of somebody else cannot be resized."""
    return tensor.untyped_storage().resizable()


def fields(batch: dict[str, Any]) -> list[torch.Tensor]:
    return [value for value in batch.values() if isinstance(value, torch.Tensor)]


def assert_same(batches: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    assert len(batches) == len(expected)
    for batch, other in zip(batches, expected, strict=True):
        assert list(batch) == list(other)
        for name, value in batch.items():
            assert value.dtype is other[name].dtype
            assert value.stride() == other[name].stride()
            assert torch.equal(value, other[name]), name


def varied(folder: Path) -> zenith.Parquet:
    """Every kind of field."""
    rows = 100
    columns = {
        "id": pa.array(range(rows), pa.int64()),
        "half": pa.array([i / 2 for i in range(rows)], pa.float32()),
        "odd": pa.array([i % 2 == 1 for i in range(rows)]),
        "name": pa.array([f"n{i}" for i in range(rows)]),
        "list": pa.array([list(range(i % 4)) for i in range(rows)], pa.list_(pa.int32())),
    }
    pq.write_table(pa.table(columns), folder / "varied.parquet")
    return zenith.Parquet(folder / "varied.parquet")


@both
def test_batches_are_written_into_torchs_own_tensors(
    workers: int, parquet_files: Path, accelerator: list[torch.Tensor], stand_ins: Any
) -> None:
    dataset = zenith.Parquet(parquet_files, stack={"x": ["f0", "f1", "f2"]})
    expected = list(DataLoader(dataset, batch_size=100, shuffle=True, seed=3, num_workers=workers))
    assert not any(map(is_torchs_own, fields(expected[0])))
    stand_ins(10**9)
    loader = DataLoader(dataset, batch_size=100, shuffle=True, seed=3, num_workers=workers, pin_memory=True)
    batches = list(loader)
    assert_same(batches, expected)
    assert all(is_torchs_own(field) for batch in batches for field in fields(batch))
    assert accelerator == []
    assert "pinning: batches are written into pinned memory of torch" in loader.explain()


@both
def test_values_that_are_widened_too(
    workers: int, tokens_file: Path, accelerator: list[torch.Tensor], stand_ins: Any
) -> None:
    dataset = zenith.Tokens(tokens_file, seq_len=64)
    expected = list(DataLoader(dataset, batch_size=32, num_workers=workers))
    stand_ins(10**9)
    batches = list(DataLoader(dataset, batch_size=32, num_workers=workers, pin_memory=True))
    assert_same(batches, expected)
    assert all(is_torchs_own(field) for batch in batches for field in fields(batch))
    assert accelerator == []


@both
@pytest.mark.parametrize("granted", [0, 5])
def test_what_torch_refuses_is_pinned_by_torchs_own_means(
    workers: int, granted: int, tokens_file: Path, accelerator: list[torch.Tensor], stand_ins: Any
) -> None:
    dataset = zenith.Tokens(tokens_file, seq_len=64)
    expected = list(DataLoader(dataset, batch_size=32, num_workers=workers))
    stand_ins(granted)
    batches = list(DataLoader(dataset, batch_size=32, num_workers=workers, pin_memory=True))
    assert_same(batches, expected)
    assert len(accelerator) == 2 * len(batches) - granted
    assert all(is_torchs_own(field) for batch in batches for field in fields(batch))


@without_gpu
def test_a_refusal_of_the_allocator_itself(tokens_file: Path, accelerator: list[torch.Tensor]) -> None:
    dataset = zenith.Tokens(tokens_file, seq_len=64)
    batches = list(DataLoader(dataset, batch_size=32, num_workers=2, pin_memory=True))
    assert_same(batches, list(DataLoader(dataset, batch_size=32)))
    assert len(accelerator) == 2 * len(batches)


@both
def test_kinds_of_fields(workers: int, tmp_path: Path, accelerator: list[torch.Tensor], stand_ins: Any) -> None:
    dataset = varied(tmp_path)
    expected = list(DataLoader(dataset, batch_size=30, num_workers=workers))
    stand_ins(10**9)
    batches = list(DataLoader(dataset, batch_size=30, num_workers=workers, pin_memory=True))
    for batch, other in zip(batches, expected, strict=True):
        assert batch["name"] == other["name"]
        for name in ("id", "half", "odd"):
            assert is_torchs_own(batch[name])
            assert torch.equal(batch[name], other[name])
        assert all(map(is_torchs_own, batch["list"]))
        assert [part.tolist() for part in batch["list"]] == [part.tolist() for part in other["list"]]
    # The values of the lists, and nothing else: what becomes texts and sizes is not pinned.
    assert [part.dtype for part in accelerator] == [torch.uint8] * len(batches)


def test_jagged_fields(tmp_path: Path, accelerator: list[torch.Tensor], stand_ins: Any) -> None:
    varied(tmp_path)
    dataset = zenith.Parquet(tmp_path / "varied.parquet", columns=["list"], ragged="jagged")
    stand_ins(10**9)
    (batch,) = DataLoader(dataset, batch_size=100, pin_memory=True)
    assert is_torchs_own(batch["list"].values())
    assert batch["list"].offsets().tolist()[:6] == [0, 0, 1, 3, 6, 6]


def test_tensors_are_the_users(tokens_file: Path, accelerator: list[torch.Tensor], stand_ins: Any) -> None:
    """DL-63, DL-64: kept, changed, dropped one by one, beyond the life of their loader."""
    dataset = zenith.Tokens(tokens_file, seq_len=64)
    expected = list(DataLoader(dataset, batch_size=32))
    stand_ins(10**9)
    loader = DataLoader(dataset, batch_size=32, num_workers=2, pin_memory=True)
    kept = []
    for batch in loader:
        batch["x"].fill_(-1)
        kept.append(batch["y"][:, 1:])
    del loader, batch
    assert all(torch.equal(view, other["y"][:, 1:]) for view, other in zip(kept, expected, strict=True))
    with torch.inference_mode():
        first = next(iter(DataLoader(dataset, batch_size=32, pin_memory=True)))
    assert torch.equal(first["x"], expected[0]["x"])


@both
def test_leaving_in_the_midst_gives_tensors_back(
    workers: int, tokens_file: Path, accelerator: list[torch.Tensor], stand_ins: Any
) -> None:
    stand_ins(10**9)
    loader = DataLoader(zenith.Tokens(tokens_file, seq_len=64), batch_size=32, num_workers=workers, pin_memory=True)
    for _ in range(20):
        iterator = iter(loader)
        next(iterator)
        del iterator


@pytest.mark.usefixtures("accelerator")
def test_why_torch_has_none_is_told(tokens_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pinning, "_refusal", lambda: "Cannot re-initialize CUDA in forked subprocess")
    loader = DataLoader(zenith.Tokens(tokens_file, seq_len=64), batch_size=32, pin_memory=True)
    next(iter(loader))
    assert "pinning: torch's pin_memory() copies each batch: Cannot re-initialize CUDA" in loader.explain()


@without_gpu
def test_torch_is_asked_whether_it_has_any() -> None:
    with pytest.raises(RuntimeError) as refused:
        torch.empty(1, pin_memory=True)
    assert str(refused.value).splitlines()[0] == pinning._refusal()


def test_at_the_end_of_the_process_torch_is_left_alone(tokens_file: Path) -> None:
    """An iterator that lives on has threads that do, too; they make no tensors while torch is destroyed."""
    code = f"""
import torch, zenith
from zenith import _engine
from zenith_torch import DataLoader, pinning

torch.accelerator.is_available = lambda: True
torch.accelerator.current_accelerator = lambda: torch.device("cuda")
pinning._refusal = lambda: None
torch.Tensor.pin_memory = lambda tensor: tensor
_engine._test_tensors(10**9)
iterator = iter(DataLoader(zenith.Tokens({str(tokens_file)!r}, seq_len=8), batch_size=4, num_workers=2, pin_memory=True,
                           prefetch_factor=4))
assert next(iterator)["x"].untyped_storage().resizable()
cycle = [iterator]
cycle.append(cycle)
_engine.end_lending()  # As the exit does.
owned = [batch["x"].untyped_storage().resizable() for batch in iterator]
print(owned[-1])
iterator = iter(iterator._loader)
next(iterator)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("False\n", "", 0)


class TestWarnings:
    """DL-58 for native loaders."""

    def warnings_of(self, loader: DataLoader[Any]) -> list[str]:
        with pytest.warns(UserWarning, match="pin_memory") as seen:
            batch = next(iter(loader))
        assert not any(map(is_torchs_own, fields(batch)))
        assert {warning.filename for warning in seen} == {__file__}
        return [str(warning.message) for warning in seen]

    def test_without_an_accelerator_every_iterator_warns(
        self, tokens_file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
        loader = DataLoader(zenith.Tokens(tokens_file, seq_len=64), batch_size=32, pin_memory=True)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert "pinning: off: no accelerator is found" in loader.explain()
        for _ in range(2):
            assert self.warnings_of(loader) == [NO_ACCELERATOR]

    def test_a_device_is_deprecated(self, tokens_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
        dataset = zenith.Tokens(tokens_file, seq_len=64)
        loader = DataLoader(dataset, batch_size=32, pin_memory=True, pin_memory_device="cuda")
        assert self.warnings_of(loader) == [OLD_DEVICE, NO_ACCELERATOR]

    def test_on_mps_nothing_is_pinned(
        self, tokens_file: Path, accelerator: list[torch.Tensor], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("mps"))
        loader = DataLoader(zenith.Tokens(tokens_file, seq_len=64), batch_size=32, pin_memory=True)
        assert self.warnings_of(loader) == [NOT_ON_MPS]
        assert accelerator == []

    def test_without_pin_memory_nothing_is_said(self, tokens_file: Path) -> None:
        dataset = zenith.Tokens(tokens_file, seq_len=64)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            loader = DataLoader(dataset, batch_size=32, pin_memory_device="cuda")
            next(iter(loader))
        assert "pinning" not in loader.explain()


def test_every_iterator_of_torch_says_the_same() -> None:
    """The texts are torch's."""
    source = Path(torch.utils.data.dataloader.__file__).read_text()
    joined = re.sub(r'"\s*f?"', "", source)
    for text in (NO_ACCELERATOR, NOT_ON_MPS, OLD_DEVICE.replace("'cuda'", "'{loader.pin_memory_device}'")):
        assert text in joined


@on_gpu
@both
def test_on_a_gpu_batches_are_pinned_and_copies_may_be_late(workers: int, tokens_file: Path) -> None:
    """PS-10: a copy on a stream of the user's own waits behind a long kernel while the batch is dropped."""
    dataset = zenith.Tokens(tokens_file, seq_len=64)
    expected = list(DataLoader(dataset, batch_size=32))
    stream = torch.cuda.Stream()
    arrived = []
    with torch.cuda.stream(stream):
        for batch in DataLoader(dataset, batch_size=32, num_workers=workers, pin_memory=True):
            assert all(field.is_pinned() for field in fields(batch))
            torch.cuda._sleep(20_000_000)
            arrived.append(batch["x"].to("cuda", non_blocking=True))
            del batch
    stream.synchronize()
    assert all(torch.equal(x.cpu(), other["x"]) for x, other in zip(arrived, expected, strict=True))
