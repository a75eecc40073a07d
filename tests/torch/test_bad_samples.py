"""``on_error`` over Python datasets: exactly the samples that cannot be had are missing, whatever the workers."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import zenith
from torch.utils.data import Dataset, IterableDataset, TensorDataset
from zenith_torch import DataLoader

SIZE = 23
BAD = {0, 5, 8, 9, 10, 11, 22}
GOOD = [i for i in range(SIZE) if i not in BAD]


class Flawed(Dataset):
    """Sample *i* is *i*; counts in all processes how often each was asked for."""

    def __init__(self, bad: set[int] = BAD, error: type[Exception] = ValueError) -> None:
        self.bad, self.error = bad, error
        self.asked = torch.zeros(SIZE, dtype=torch.int64).share_memory_()

    def __len__(self) -> int:
        return SIZE

    def __getitem__(self, index: int) -> int:
        self.asked[index] += 1
        if index in self.bad:
            raise self.error(f"sample {index} is broken")
        return index


class FlawedAtOnce(Flawed):
    def __getitems__(self, indices: list[int]) -> list[int]:
        return [self[index] for index in indices]


class FlawedStream(IterableDataset):
    """Its iterator goes on after an error."""

    def __iter__(self) -> Iterator[int]:
        info = torch.utils.data.get_worker_info()
        first, step = (0, 1) if info is None else (info.id, info.num_workers)
        return map(Flawed().__getitem__, range(first, SIZE, step))


def values(loader: Any) -> list[Any]:
    return [batch.tolist() if isinstance(batch, torch.Tensor) else batch for batch in loader]


def expected(order: list[int], size: int) -> list[list[int]]:
    batches = [[i for i in order[k : k + size] if i not in BAD] for k in range(0, len(order), size)]
    return [batch for batch in batches if batch]


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("kind", [Flawed, FlawedAtOnce])
@pytest.mark.parametrize("error", [ValueError, StopIteration, KeyError])
def test_bad_samples_are_left_out_and_counted(kind: type[Flawed], workers: int, error: type[Exception]) -> None:
    loader = DataLoader(kind(error=error), batch_size=4, num_workers=workers, on_error="skip")
    assert values(loader) == expected(list(range(SIZE)), 4)
    stats = loader.stats()
    assert (stats["batches"], stats["samples"]) == (5, len(GOOD))
    assert (stats["skipped_samples"], stats["skipped_batches"]) == (len(BAD), 1)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_shuffled_order_and_single_samples(workers: int) -> None:
    torch.manual_seed(3)
    order = values(DataLoader(list(range(SIZE)), batch_size=None, shuffle=True))
    for size in (5, None):
        torch.manual_seed(3)
        loader = DataLoader(Flawed(), batch_size=size, shuffle=True, num_workers=workers, on_error="skip")
        assert values(loader) == (expected(order, 5) if size else [i for i in order if i in GOOD])
        assert loader.stats()["samples"] == len(GOOD)


def test_what_overtakes_is_counted_too() -> None:
    loader = DataLoader(Flawed(), batch_size=4, num_workers=2, in_order=False, on_error="skip")
    assert sorted(itertools.chain(*values(loader))) == GOOD
    assert loader.stats()["samples"] == len(GOOD)
    assert loader.stats()["skipped_samples"] == len(BAD)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_start_methods(method: str) -> None:
    loader = DataLoader(Flawed(), batch_size=4, num_workers=2, on_error="skip", multiprocessing_context=method)
    assert values(loader) == expected(list(range(SIZE)), 4)


@pytest.mark.parametrize("workers", [0, 2])
def test_too_many_are_an_error(workers: int) -> None:
    loader = DataLoader(Flawed(), batch_size=4, num_workers=workers, on_error="skip", max_bad_samples=2)
    iterator = iter(loader)
    assert values(itertools.islice(iterator, 2)) == [[1, 2, 3], [4, 6, 7]]
    with pytest.raises(zenith.BadSamplesError, match=r"sample 11: ValueError: sample 11 is broken.*max_bad_samples=2"):
        next(iterator)
    assert next(iterator).tolist() == [12, 13, 14, 15], "good batches still come"
    loader.max_bad_samples = len(BAD)
    assert values(loader) == expected(list(range(SIZE)), 4)


@pytest.mark.parametrize("workers", [0, 2])
def test_it_raises_by_default_and_for_collation_always(workers: int) -> None:
    with pytest.raises(ValueError, match="sample 0 is broken"):
        next(iter(DataLoader(Flawed(), num_workers=workers)))

    def collate(samples: list[int]) -> list[int]:
        raise RuntimeError("cannot be collated")

    loader = DataLoader(Flawed(), num_workers=workers, collate_fn=collate, on_error="skip")
    with pytest.raises(RuntimeError, match="cannot be collated"):
        next(iter(loader))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resume_is_exact(workers: int) -> None:
    def loader(count: int) -> DataLoader:
        torch.manual_seed(count)
        return DataLoader(Flawed(), batch_size=3, shuffle=True, num_workers=count, on_error="skip")

    unbroken = values(loader(workers))
    for cut in range(len(unbroken) + 1):
        first = loader(workers)
        iterator = iter(first)
        head = values(itertools.islice(iterator, cut))
        state = json.loads(json.dumps(first.state_dict()))
        rest = loader(2 - workers)
        rest.load_state_dict(state)
        assert head + values(rest) == unbroken, cut


@pytest.mark.parametrize("workers", [0, 2])
def test_the_quarantine_lists_samples_and_they_are_not_read_again(workers: int, tmp_path: Path) -> None:
    listed = tmp_path / "bad.jsonl"
    options: dict[str, Any] = {"on_error": "quarantine", "quarantine_path": listed, "batch_size": 4}
    first = DataLoader(Flawed(), num_workers=workers, **options)
    assert values(first) == expected(list(range(SIZE)), 4)
    lines = [json.loads(line) for line in listed.read_text().splitlines()]
    assert [line["index"] for line in lines] == sorted(BAD)
    assert lines[1]["kind"] == "ValueError"
    assert lines[1]["message"] == "sample 5 is broken"
    assert lines[1]["worker"] == (1 if workers else None)
    assert values(first) == expected(list(range(SIZE)), 4)
    for kind in (Flawed, FlawedAtOnce):
        again = DataLoader(kind(set()), num_workers=2 - workers, **options)
        if kind is Flawed:
            assert values(again) == expected(list(range(SIZE)), 4)
            assert again.dataset.asked.tolist() == [int(i not in BAD) for i in range(SIZE)]
            assert again.stats()["skipped_samples"] == len(BAD)
        else:
            assert values(again)[0] == [0, 1, 2, 3], "the lines are of another dataset"
    assert len(listed.read_text().splitlines()) == len(BAD)


def test_persistent_workers_do_not_read_what_was_listed_since(tmp_path: Path) -> None:
    loader = DataLoader(
        Flawed(),
        batch_size=4,
        num_workers=2,
        persistent_workers=True,
        on_error="quarantine",
        quarantine_path=tmp_path / "bad.jsonl",
    )
    assert values(loader) == values(loader) == expected(list(range(SIZE)), 4)
    assert loader.dataset.asked.tolist() == [1 if i in BAD else 2 for i in range(SIZE)]
    assert loader.stats()["skipped_samples"] == len(BAD)


def test_a_damaged_quarantine_is_named(tmp_path: Path) -> None:
    listed = tmp_path / "bad.jsonl"
    listed.write_text('{"file": "a.parquet", "block": 3}\nnonsense\n')
    loader = DataLoader(Flawed(), on_error="quarantine", quarantine_path=listed)
    with pytest.raises(zenith.CorruptError, match=r"bad\.jsonl, line 2"):
        iter(loader)
    with pytest.raises(ValueError, match="map-style"):
        DataLoader(FlawedStream(), on_error="quarantine", quarantine_path=listed)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("size", [4, None])
def test_iterable_datasets_go_on_after_an_error(workers: int, size: int | None) -> None:
    loader = DataLoader(FlawedStream(), batch_size=size, num_workers=workers, on_error="skip")
    found = values(loader)
    assert sorted(found if size is None else itertools.chain(*found)) == GOOD
    assert loader.stats()["skipped_samples"] == len(BAD)
    assert "samples" not in loader.stats()
    first = DataLoader(FlawedStream(), batch_size=size, num_workers=workers, on_error="skip")
    head = values(itertools.islice(iter(first), 2))
    loader.load_state_dict(first.state_dict())
    assert head + values(loader) == found


@pytest.mark.parametrize("workers", [0, 1])
def test_generators_raise_because_they_end_there(workers: int) -> None:
    class Generating(IterableDataset):
        def __iter__(self) -> Iterator[int]:
            yield 1
            raise ValueError("sample 2 is broken")

    iterator = iter(DataLoader(Generating(), num_workers=workers, on_error="skip"))
    assert next(iterator).item() == 1
    with pytest.raises(ValueError, match="sample 2 is broken"):
        next(iterator)


def test_an_iterator_that_only_fails_is_no_endless_loop() -> None:
    class Hopeless(IterableDataset):
        def __iter__(self) -> Any:
            return iter(map(Flawed({0}).__getitem__, itertools.repeat(0)))

    with pytest.raises(ValueError, match="sample 0 is broken"):
        values(DataLoader(Hopeless(), batch_size=100, on_error="skip"))


@pytest.mark.parametrize("workers", [0, 2])
def test_tensor_datasets_and_pinned_batches(workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    data = TensorDataset(torch.arange(5))
    loader = DataLoader(data, sampler=[0, 9, 3], batch_size=2, num_workers=workers, on_error="skip")
    assert [batch[0].tolist() for batch in loader] == [[0], [3]]
    pinned = []
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "current_device_index", lambda: 0)
    monkeypatch.setattr(torch.accelerator, "set_device_index", lambda index: None)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: pinned.append(tensor.tolist()) or tensor)
    loader = DataLoader(Flawed(), batch_size=4, num_workers=workers, on_error="skip", pin_memory=True)
    assert values(loader) == sorted(pinned) == expected(list(range(SIZE)), 4)


@pytest.mark.parametrize("workers", [0, 2])
def test_stats_say_who_waits(workers: int) -> None:
    class Slow(Flawed):
        def __getitem__(self, index: int) -> int:
            time.sleep(0.01)
            return index

    loader = DataLoader(Slow(), batch_size=4, num_workers=workers)
    assert loader.stats() == {"verdict": "no epoch has begun"}
    values(loader)
    stats = loader.stats()
    assert stats["verdict"] == "loader-bound"
    assert stats["batches"] == 6
    assert stats["skipped_samples"] == 0
    loader = DataLoader(list(range(SIZE)), batch_size=4, num_workers=workers)
    for _ in loader:
        time.sleep(0.05)
    assert loader.stats()["verdict"] == "consumer-bound"
