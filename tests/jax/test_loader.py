"""`zenith_jax.DataLoader`: every sample once, on its device, as it is in the file, in the engine's own memory."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zenith
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from zenith import _engine
from zenith_jax import DataLoader

from tests.jax.meshes import by_rows, dealt, flat, ids

ROWS = 10_007


@pytest.fixture(scope="module")
def dataset(parquet_files: Path) -> zenith.Dataset:
    return zenith.Parquet(parquet_files, stack={"x": ["f0", "f1", "f2"], "id": "id", "label": "label"})


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("shuffle", [False, True])
def test_one_device_gets_every_sample_once(
    dataset: zenith.Dataset, parquet_table: pa.Table, shuffle: bool, workers: int
) -> None:
    loader = DataLoader(dataset, 64, shuffle=shuffle, seed=5, num_workers=workers)
    batches = list(loader)
    assert len(batches) == len(loader) == -(-ROWS // 64)
    assert list(batches[0]) == ["x", "id", "label"]
    assert all(isinstance(value, jax.Array) for batch in batches for value in batch.values())
    x, rows, label = (np.concatenate([np.asarray(batch[name]) for batch in batches]) for name in ("x", "id", "label"))
    assert (rows.tolist() == list(range(ROWS))) == (not shuffle)
    assert sorted(rows.tolist()) == list(range(ROWS))
    expected = np.stack([parquet_table[f"f{column}"].to_numpy() for column in range(3)], axis=1)
    np.testing.assert_array_equal(x, expected[rows])
    np.testing.assert_array_equal(label, parquet_table["label"].to_numpy()[rows])


@pytest.mark.parametrize(("shards", "replicas"), [(1, 1), (2, 1), (8, 1), (1, 8), (2, 4), (4, 2)])
def test_devices_share_out_the_batches_of_one_device(dataset: zenith.Dataset, shards: int, replicas: int) -> None:
    order = flat(ids(DataLoader(dataset, 96, shuffle=True, seed=5, drop_last=True)))
    sharding = by_rows(shards, replicas)
    loader = DataLoader(dataset, 96, shuffle=True, seed=5, drop_last=True, sharding=sharding, num_workers=2)
    assert len(loader) == ROWS // 96
    batches = list(loader)
    assert [np.asarray(batch["id"]).tolist() for batch in batches] == list(dealt(order, 96, shards))
    for name, shape in {"x": (96, 3), "id": (96,)}.items():
        array = batches[3][name]
        assert array.shape == shape
        assert array.sharding == sharding
        assert len(array.addressable_shards) == shards * replicas
        for shard in array.addressable_shards:
            np.testing.assert_array_equal(shard.data, np.asarray(array)[shard.index])


@pytest.fixture
def handed_out(monkeypatch: pytest.MonkeyPatch) -> list[_engine.Part]:
    """The parts that loaders got from the engine."""
    parts: list[_engine.Part] = []
    next_parts = _engine.next_parts

    def watched(loader: int, wait_ms: int) -> tuple[int, list[_engine.Part]]:
        status, own = next_parts(loader, wait_ms)
        parts.extend(own)
        return status, own

    monkeypatch.setattr(_engine, "next_parts", watched)
    return parts


def test_arrays_lie_in_the_memory_of_the_engine(tmp_path: Path, handed_out: list[_engine.Part]) -> None:
    names = ["bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "float16", "float32"]
    columns = {name: (np.arange(1000) % 2).astype(name) for name in names}
    # Narrowed, and made: those that the file does not have.
    columns |= {"wide": np.arange(1000), "brain": np.arange(1000, dtype=np.float32)}
    pq.write_table(pa.table(columns), tmp_path / "types.parquet", row_group_size=100)
    sharding = by_rows(jax.device_count())
    batch_size = 24 * jax.device_count()
    loader = DataLoader(zenith.open(tmp_path), batch_size, sharding=sharding, dtypes={"brain": "bfloat16"})
    batch = next(iter(loader))
    for field, name in enumerate([*names, "int32", "bfloat16"]):
        array = list(batch.values())[field]
        assert array.dtype == name
        pointers = [shard.data.unsafe_buffer_pointer() for shard in array.addressable_shards]
        assert pointers == [part.pointer for part in handed_out[field :: len(batch)]], name
        assert all(pointer % 64 == 0 for pointer in pointers)
        shards = len(pointers)
        expected = next(dealt(list(range(batch_size)), batch_size, shards))
        host = list(columns.values())[field]
        np.testing.assert_array_equal(np.asarray(array), host[expected].astype(array.dtype))


def test_replicas_share_memory(dataset: zenith.Dataset) -> None:
    batch = next(iter(DataLoader(dataset, 64, sharding=by_rows(2, 4))))
    pointers = [shard.data.unsafe_buffer_pointer() for shard in batch["x"].addressable_shards]
    assert len(pointers) == 8
    assert len(set(pointers)) == 2


def test_a_slab_comes_back_when_the_array_is_gone_and_not_before(dataset: zenith.Dataset) -> None:
    gc.collect()  # What other tests left.
    before = _engine.leases()
    loader = DataLoader(dataset, 64, shuffle=True, seed=1, num_workers=2)
    iterator = iter(loader)
    kept = next(iterator)
    copy = np.array(kept["x"])
    assert _engine.leases() == before + 3
    view = jax.jit(lambda x: x[:3] + 0)(kept["x"])
    for _ in range(3):
        for batch in loader:
            assert batch["x"].unsafe_buffer_pointer() != kept["x"].unsafe_buffer_pointer()
    del batch, iterator
    np.testing.assert_array_equal(kept["x"], copy)
    assert _engine.leases() == before + 3
    del kept["id"], kept["label"]
    assert _engine.leases() == before + 1
    assert loader.stats()["leases"] == before + 1
    kept["x"].delete()
    assert _engine.leases() == before
    np.testing.assert_array_equal(view, copy[:3])


def test_donation_copies_and_gives_the_slab_back(dataset: zenith.Dataset, handed_out: list[_engine.Part]) -> None:
    gc.collect()  # What other tests left.
    before = _engine.leases()
    batch = next(iter(DataLoader(dataset, 64)))
    x = batch.pop("x")
    host, copy = np.from_dlpack(handed_out[0].raw()), np.array(x)
    pointer = x.unsafe_buffer_pointer()
    doubled = jax.jit(lambda x: 2 * x, donate_argnums=0)(x)
    assert doubled.unsafe_buffer_pointer() != pointer == handed_out[0].pointer
    np.testing.assert_array_equal(doubled, 2 * copy)
    np.testing.assert_array_equal(host.view(np.float32).reshape(64, 3), copy)
    assert _engine.leases() == before + 3
    handed_out.clear()
    del x, host, batch
    assert _engine.leases() == before


def test_arrays_that_are_kept_for_ever_cost_new_memory_and_nothing_else(dataset: zenith.Dataset) -> None:
    gc.collect()  # What other tests left.
    before = _engine.leases()
    kept = list(DataLoader(dataset, 64, num_workers=2))
    assert _engine.leases() == before + 3 * len(kept)
    assert flat(ids(kept)) == list(range(ROWS))


def test_text_and_lists_stay_outside_of_jax(tmp_path: Path) -> None:
    text = [f"sample {row}" for row in range(100)]
    lists = [list(range(row % 5)) for row in range(100)]
    pq.write_table(pa.table({"text": text, "numbers": lists, "id": range(100)}), tmp_path / "a.parquet")
    sharding = by_rows(jax.device_count())
    batch = list(DataLoader(tmp_path / "a.parquet", 40, sharding=sharding, tail="fill", mask="valid"))[2]
    rows = np.asarray(batch["id"]).tolist()
    assert batch["text"] == [text[row] for row in rows]
    assert [numbers.tolist() for numbers in batch["numbers"]] == [lists[row] for row in rows]
    assert sorted(np.asarray(rows)[np.asarray(batch["valid"])].tolist()) == list(range(80, 100))


@pytest.mark.parametrize("shards", [1, 2, 8])
@pytest.mark.parametrize("tail", ["pad", "fill", "drop", None])
def test_tails(dataset: zenith.Dataset, tail: str | None, shards: int) -> None:
    loader = DataLoader(dataset, 400, sharding=by_rows(shards), tail=tail, mask="mask")
    seen, sizes, valid = [], [], []
    for batch in loader:
        rows, mask = np.asarray(batch["id"]), np.asarray(batch["mask"])
        assert batch["mask"].sharding.is_equivalent_to(batch["id"].sharding, 1)
        seen += rows[mask].tolist()
        assert set(rows[~mask].tolist()) <= set(range(400)), "the epoch's first samples are repeated"
        sizes.append(len(rows))
        valid.append(loader.valid)
        assert valid[-1] == mask.sum()
    rest = ROWS % 400
    last = {"pad": -(-rest // shards) * shards, "fill": 400, "drop": 400, None: -(-rest // shards) * shards}[tail]
    assert len(sizes) == len(loader) == ROWS // 400 + (tail != "drop")
    assert sizes == [400] * (len(sizes) - 1) + [last]
    assert valid[-1] == (400 if tail == "drop" else rest)
    assert sorted(seen) == list(range(ROWS - rest if tail == "drop" else ROWS))


def test_epochs_differ_and_can_be_chosen(dataset: zenith.Dataset) -> None:
    loader = DataLoader(dataset, 1000, shuffle=True, seed=3)
    first, second = ids(loader), ids(loader)
    assert first != second
    loader.set_epoch(0)
    assert ids(loader) == first == ids(loader)
    loader.set_epoch(1)
    assert ids(loader) == second


def test_64_bits_are_kept_where_jax_has_them(dataset: zenith.Dataset) -> None:
    with jax.enable_x64(True):
        loader = DataLoader(dataset, 64, dtypes={"label": "float64"})
        batch = next(iter(loader))
        assert batch["id"].dtype == np.int64
        assert batch["label"].dtype == np.float64
        assert "as int32" not in loader.explain()


def test_values_that_do_not_fit_are_named(tmp_path: Path) -> None:
    path = tmp_path / "wide.parquet"
    wide = np.arange(1000)
    wide[777] = 2**40
    table = pa.table({"a": np.zeros(1000, np.float32), "n": wide, "d": np.where(wide > 1000, 1e300, 0.5)})
    pq.write_table(table, path, row_group_size=100)
    loader = DataLoader(zenith.Parquet(path, columns=["a", "n"]), 50, num_workers=1)
    assert "n int64 as int32 (jax_enable_x64 is off" in loader.explain()
    with pytest.raises(zenith.InvalidArgumentError, match="1099511627776 does not fit int32") as raised:
        list(loader)
    assert (raised.value.field, raised.value.row, raised.value.file) == ("n", 777, str(path))
    assert "jax_enable_x64" in raised.value.__notes__[0]
    with pytest.raises(zenith.InvalidArgumentError, match="1e300 does not fit float32") as raised:
        list(DataLoader(zenith.Parquet(path, columns=["d"]), 50))
    assert raised.value.row == 777
    batch = next(iter(DataLoader(zenith.Parquet(path, columns=["n"]), 1000, dtypes={"n": jnp.float32})))
    assert batch["n"][777] == 2.0**40


def test_wrong_arguments_are_named(dataset: zenith.Dataset) -> None:
    wrong = [
        ({"batch_size": 0}, "batch_size"),
        ({"tail": "wrap"}, "wrap"),
        ({"tail": "pad", "drop_last": True}, "drop_last"),
        ({"mask": "x"}, "mask='x'"),
        ({"stall_timeout": 0}, "stall_timeout"),
        ({"dtypes": {"id": "int64"}}, "jax_enable_x64"),
        ({"dtypes": {"nothing": "int8"}}, "nothing"),
        ({"sharding": {}}, "no field"),
    ]
    for arguments, text in wrong:
        with pytest.raises(ValueError, match=text):
            iter(DataLoader(dataset, **{"batch_size": 64, **arguments}))


def test_shardings_that_cannot_be_are_named(dataset: zenith.Dataset, parquet_files: Path) -> None:
    whole = by_rows(8)
    with pytest.raises(ValueError, match="batch_size=60 cannot be divided over the 8 row shards"):
        iter(DataLoader(dataset, 60, sharding=whole))
    columns = NamedSharding(Mesh(np.array(jax.devices()[:3]), ("model",)), P(None, "model"))
    with pytest.raises(ValueError, match=r"divides field 'x'.*not by rows alone"):
        iter(DataLoader(dataset, 60, sharding={"x": columns}))
    with pytest.raises(ValueError, match="'x' and 'id' are divided into rows differently"):
        iter(DataLoader(dataset, 64, sharding={"x": whole, "id": by_rows(4)}))
    with pytest.raises(zenith.InvalidArgumentError, match="uneven"):
        iter(DataLoader(dataset, 64, sharding=whole, tail="uneven"))
    deep = NamedSharding(whole.mesh, P("data", None))
    with pytest.raises(ValueError, match=r"does not fit field 'id', in batches of shape \[64\]"):
        iter(
            DataLoader(
                zenith.Parquet(parquet_files, columns=["id"]),
                64,
                sharding=NamedSharding(by_rows(4, 2).mesh, P("data", "model")),
            )
        )
    batch = next(iter(DataLoader(dataset, 64, sharding={"x": deep}, mask="mask")))
    assert batch["id"].sharding.spec == batch["mask"].sharding.spec == P("data")


def test_with_one_device() -> None:
    """The same tests where the CPU is one device, which is a process of its own."""
    if jax.device_count() == 1:
        pytest.skip("this is it")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__, "tests/jax/test_state.py"]
    environment = {**os.environ, "ZENITH_JAX_DEVICES": "1", "XLA_FLAGS": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout
