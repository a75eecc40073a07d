"""Python datasets: samples of any structure, loaded here or by processes that are not forked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import zenith
from zenith_jax import DataLoader

from tests.jax.meshes import by_rows, dealt, flat, ids

COUNT = 103


class Samples:
    """``{"id": i, "x": [i, i] as float64, "name": text}``"""

    def __init__(self, bad: int | None = None) -> None:
        self.bad = bad

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, index: int) -> dict[str, Any]:
        if index == self.bad:
            raise OSError(f"sample {index} is on a disk that failed")
        return {"id": index, "x": np.array([index, index], np.float64), "name": f"sample {index}"}


def test_batches_have_the_structure_of_samples() -> None:
    batches = list(DataLoader(Samples(), 10))
    assert flat([np.asarray(batch["id"]).tolist() for batch in batches]) == list(range(COUNT))
    assert (batches[0]["x"].shape, batches[0]["x"].dtype, batches[0]["id"].dtype) == ((10, 2), np.float32, np.int32)
    assert batches[10]["name"] == ["sample 100", "sample 101", "sample 102"]
    pairs = [(np.uint8(i), (float(i), [i])) for i in range(4)]
    batch = next(iter(DataLoader(pairs, 4)))
    assert jax.tree.structure(batch) == jax.tree.structure(pairs[0])
    assert batch[0].dtype == np.uint8


@pytest.mark.parametrize("shards", [1, 2, 8])
@pytest.mark.parametrize("tail", ["pad", "fill", "drop"])
def test_devices_share_out_the_batches(tail: str, shards: int) -> None:
    order = flat(ids(DataLoader(Samples(), 1, shuffle=True, seed=4)))
    assert sorted(order) == list(range(COUNT))
    loader = DataLoader(Samples(), 16, shuffle=True, seed=4, tail=tail, sharding=by_rows(shards))
    found = ids(loader)
    whole = COUNT // 16 * 16
    padded = {"pad": -(-COUNT // shards) * shards, "fill": whole + 16, "drop": whole}[tail]
    assert found == list(dealt((order + order)[:padded], 16, shards))
    assert len(found) == len(loader)
    assert loader.valid == (16 if tail == "drop" else COUNT - whole)


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_worker_processes_give_the_same(method: str) -> None:
    loader = DataLoader(Samples(), 16, shuffle=True, num_workers=2, multiprocessing_context=method)
    assert f"2 processes ({method})" in loader.explain()
    first = ids(loader)
    plain = DataLoader(Samples(), 16, shuffle=True)
    assert first == ids(plain)
    assert ids(loader) == ids(plain) != first
    assert loader.stats() == {"batches": 7, "samples": COUNT}


@pytest.mark.parametrize("workers", [0, 1])
def test_errors_of_samples_are_the_callers(workers: int) -> None:
    iterator = iter(DataLoader(Samples(bad=25), 10, num_workers=workers))
    assert [len(next(iterator)["id"]) for _ in range(2)] == [10, 10]
    with pytest.raises(OSError, match="disk that failed"):
        next(iterator)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("shards", [1, 4])
def test_a_run_goes_on_where_it_stood(shards: int, workers: int) -> None:
    order = flat(ids(DataLoader(Samples(), 1, shuffle=True, seed=4)))
    before = DataLoader(Samples(), 6, shuffle=True, seed=4, num_workers=workers)
    for number, _ in enumerate(before):
        assert before.state_dict()["position"] == 6 * (number + 1)
        if number == 6:
            break
    state = json.loads(json.dumps(before.state_dict()))
    assert (state["position"], state["epoch"]) == (42, 0)
    after = DataLoader(Samples(), 8, sharding=by_rows(shards))
    after.load_state_dict(state)
    assert after.state_dict() == state
    found = ids(after)
    for number, batch in enumerate(found[:-1]):
        assert sorted(batch) == sorted(order[42 + 8 * number : 50 + 8 * number])
        turned = [(shard - 42) % shards for shard in range(shards)]
        part = order[42 + 8 * number : 50 + 8 * number]
        assert batch == [sample for shard in turned for sample in part[shard::shards]]
    assert set(flat(found)) >= set(order[42:])
    assert (after.state_dict()["epoch"], after.state_dict()["position"]) == (1, 0)
    assert flat(ids(before)) == order, "a loop that was left begins anew"
    after.load_state_dict({})
    assert after.state_dict()["seed"] == 0
    for damaged in ({**state, "samples": 7}, {**state, "kind": "x"}, {**state, "seed": "1"}, {"version": 1}):
        with pytest.raises(zenith.StateError):
            after.load_state_dict(damaged)


def test_what_cannot_be_is_named(parquet_files: Path) -> None:
    wide = [{"n": 2**40 if index == 3 else index} for index in range(5)]
    with pytest.raises(
        zenith.InvalidArgumentError, match=r"sample 3\['n'\]: 1099511627776 does not fit int32"
    ) as raised:
        list(DataLoader(wide, 5))
    assert (raised.value.row, raised.value.field) == (3, "['n']")
    with jax.enable_x64(True):
        assert next(iter(DataLoader(wide, 5)))["n"].dtype == np.int64
    with pytest.raises(zenith.InvalidArgumentError, match="1e\\+300 does not fit float32"):
        list(DataLoader([1.0, 1e300], 2))
    with pytest.raises(ValueError, match=r"shapes \[2\], \[3\] make no batch"):
        list(DataLoader([np.zeros(2), np.zeros(3)], 2))
    with pytest.raises(ValueError, match=r"sample 1 is .* make no batch"):
        list(DataLoader([{"a": 1}, {"b": 1}], 2))
    with pytest.raises(ValueError, match="do not survive a fork"):
        DataLoader([1], 1, multiprocessing_context="fork")
    with pytest.raises(ValueError, match="lanes needs a Zenith dataset"):
        DataLoader([1], 1, lanes=4)
    with pytest.raises(TypeError, match="generator"):
        DataLoader((i for i in range(3)), 1)

    class Changed(zenith.Parquet):
        def __getitems__(self, indices: Any) -> list[dict[str, Any]]:
            return [{"twice": 2 * sample["id"]} for sample in super().__getitems__(indices)]

    batch = next(iter(DataLoader(Changed(parquet_files, columns=["id"]), 4)))
    assert batch["twice"].tolist() == [0, 2, 4, 6]
