"""Batches that programs ask for themselves: the same as the dataset's, in every kind of program, on one device and on several."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zenith
import zenith_jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

FAILURES = (RuntimeError, ValueError)
"""What a program raises: JAX makes some codes of errors ValueError, where a program runs in the calling thread."""

ROWS, BATCH = 250, 16


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> zenith.Dataset:
    path = tmp_path_factory.mktemp("table") / "rows.parquet"
    values = np.arange(ROWS)
    columns = {"i": values, "f": values.astype(np.float32) / 7, "d": values / 3, "b": values % 3 == 0}
    pq.write_table(pa.table(columns), path, row_group_size=40)
    return zenith.Parquet(str(path))


def sharding() -> NamedSharding | None:
    devices = jax.devices()
    return NamedSharding(Mesh(np.array(devices), ("data",)), PartitionSpec("data")) if len(devices) > 1 else None


@pytest.fixture
def feed(table: zenith.Dataset) -> Iterator[zenith_jax.Feed]:
    with zenith_jax.Feed(table, BATCH, sharding=sharding(), shuffle=True, seed=5) as feed:
        yield feed


def order(table: zenith.Dataset, epoch: int, options: dict[str, Any] | None = None) -> np.ndarray:
    """Sample numbers of an epoch, by torch's door to the same engine."""
    import json

    from zenith import _engine

    options = {"batch_size": BATCH, "shuffle": True, "seed": 5, **(options or {})}
    return np.array(_engine.Loader(table._engine, json.dumps(options)).indices(epoch, 0, 1, len(table)))


def in_order(rows: np.ndarray) -> np.ndarray:
    """Rows of global batches [batches, BATCH] in the epoch's order, in which the shards take turns."""
    shards = len(jax.devices())
    return rows.reshape(len(rows), shards, BATCH // shards).swapaxes(1, 2).reshape(-1)


def whole_epoch(feed: zenith_jax.Feed, steps: int) -> Any:
    def step(token: jax.Array, _: None) -> Any:
        batch, valid, token = zenith_jax.next_batch(feed, token)
        return token, (batch, valid)

    return jax.jit(lambda token: jax.lax.scan(step, token, length=steps))


def test_a_scan_serves_whole_epochs_in_their_order(feed: zenith_jax.Feed, table: zenith.Dataset) -> None:
    steps = len(feed) + 2
    program = whole_epoch(feed, steps)
    for epoch in range(3):
        feed.set_epoch(epoch)
        token, (batches, valid) = program(feed.token)
        assert token.tolist() == [len(feed), 0]
        assert valid.tolist() == [BATCH] * (len(feed) - 1) + [ROWS % BATCH, 0, 0]
        wanted = order(table, epoch)
        for name, dtype in {"i": np.int32, "f": np.float32, "d": np.float32, "b": np.bool_}.items():
            found = in_order(np.asarray(batches[name]))
            assert found.dtype == dtype
            samples = np.array([table[int(index)][name] for index in wanted]).astype(dtype)
            np.testing.assert_array_equal(found[:ROWS], samples)
            assert not found[ROWS:].any()


def test_loops_and_numbers_serve_the_same(feed: zenith_jax.Feed) -> None:
    _, (batches, _) = whole_epoch(feed, 4)(feed.token)
    sums = np.asarray(batches["i"]).sum(1)
    feed.set_epoch(0)

    def until(carry: Any) -> Any:
        batch, _, token = zenith_jax.next_batch(feed, carry[0])
        return token, carry[1] + batch["i"].sum()

    looped = jax.jit(lambda token: jax.lax.while_loop(lambda carry: carry[0][0] < 4, until, (token, 0)))(feed.token)
    assert int(looped[1]) == sums.sum()
    feed.set_epoch(0)
    numbered = jax.lax.scan(lambda c, k: (c, zenith_jax.next_batch(feed, k).batch["i"].sum()), 0, jnp.arange(4))[1]
    assert numbered.tolist() == sums.tolist()
    feed.set_epoch(0)
    alone = [int(zenith_jax.next_batch(feed, k).batch["i"].sum()) for k in range(4)]
    assert alone == sums.tolist()
    # Two equal calls in a program, and a replay.
    twice = jax.jit(lambda k: [zenith_jax.next_batch(feed, k).batch["i"].sum() for _ in range(2)])
    assert [int(found) for found in twice(3)] == [sums[3]] * 2
    assert [int(found) for found in twice(2)] == [sums[2]] * 2


def test_rows_lie_on_their_devices(feed: zenith_jax.Feed) -> None:
    served = jax.jit(lambda token: zenith_jax.next_batch(feed, token))(feed.token)
    if feed.mesh is not None:
        assert served.batch["f"].sharding.is_equivalent_to(sharding(), 1)
    mask = np.asarray(feed.mask(served.valid))
    assert mask.all()
    last = zenith_jax.next_batch(feed, 1)
    for k in range(2, len(feed)):
        last = zenith_jax.next_batch(feed, k)
    assert np.asarray(feed.mask(last.valid)).sum() == ROWS % BATCH
    np.testing.assert_array_equal(in_order(np.asarray(feed.mask(last.valid))[None]), np.arange(BATCH) < ROWS % BATCH)


def test_replicas_of_a_mesh_get_the_same_rows(table: zenith.Dataset) -> None:
    if len(jax.devices()) < 2:
        pytest.skip("needs several devices")
    mesh = Mesh(np.array(jax.devices()).reshape(-1, 2), ("data", "model"))
    with zenith_jax.Feed(table, BATCH, sharding=NamedSharding(mesh, PartitionSpec("data"))) as feed:
        served = zenith_jax.next_batch(feed, 0)
        by_rows: dict[Any, Any] = {}
        for shard in served.batch["i"].addressable_shards:
            rows = np.asarray(shard.data).tolist()
            assert by_rows.setdefault(str(shard.index), rows) == rows
        assert sorted(row for rows in by_rows.values() for row in rows) == list(range(BATCH))


def test_inside_a_shard_map_of_ones_own(feed: zenith_jax.Feed) -> None:
    if feed.mesh is None:
        assert zenith_jax.next_batch(feed, 0, shard=0).batch["i"].shape == (BATCH,)
        return

    def here(token: jax.Array) -> jax.Array:
        served = zenith_jax.next_batch(feed, token, shard=jax.lax.axis_index("data"))
        return jax.lax.psum(served.batch["i"].sum(), "data")

    total = jax.shard_map(here, mesh=feed.mesh, in_specs=PartitionSpec(), out_specs=PartitionSpec(), check_vma=False)
    assert int(jax.jit(total)(feed.token)) == int(zenith_jax.next_batch(feed, 0).batch["i"].sum())


def test_two_feeds_in_one_program(feed: zenith_jax.Feed, table: zenith.Dataset) -> None:
    with zenith_jax.Feed(table, BATCH, sharding=sharding()) as other:

        def step(tokens: Any, _: None) -> Any:
            mine, theirs = (
                zenith_jax.next_batch(feed, token) for feed, token in zip((feed, other), tokens, strict=True)
            )
            return (mine.token, theirs.token), (mine.batch["i"].sum(), theirs.batch["i"].sum())

        _, sums = jax.jit(lambda tokens: jax.lax.scan(step, tokens, length=len(feed)))((feed.token, other.token))
        assert [int(each.sum()) for each in sums] == [ROWS * (ROWS - 1) // 2] * 2


def test_a_state_goes_on_after_its_token_and_is_the_engines(feed: zenith_jax.Feed, table: zenith.Dataset) -> None:
    feed.set_epoch(1)
    token, (before, _) = whole_epoch(feed, 5)(feed.token)
    state = feed.state_dict(token)
    assert (state["epoch"], state["position"]) == (1, 5 * BATCH)
    with zenith_jax.Feed(table, BATCH * 2, sharding=sharding()) as other:
        other.load_state_dict(state)
        found = [zenith_jax.next_batch(other, k) for k in range(len(other))]
    rows = np.concatenate([np.asarray(before["i"]).reshape(-1), *(np.asarray(each.batch["i"]) for each in found)])
    assert sum(int(each.valid) for each in found) == ROWS - 5 * BATCH
    assert rows.sum() == ROWS * (ROWS - 1) // 2
    end = feed.state_dict(np.array([len(feed), 0], np.uint32))
    assert (end["epoch"], end["position"]) == (2, 0)


def test_gradients_go_past_it_and_maps_and_checkpoints_do_not_go_over_it(feed: zenith_jax.Feed) -> None:
    def loss(weight: jax.Array) -> jax.Array:
        def step(carry: Any, _: None) -> Any:
            batch, _, token = zenith_jax.next_batch(feed, carry[0])
            return (token, carry[1] + weight * batch["f"].sum()), None

        return jax.lax.scan(step, (jnp.asarray(feed.token), 0.0), length=3)[0][1]

    gradient = jax.jit(jax.grad(loss))(2.0).block_until_ready()
    feed.set_epoch(0)
    np.testing.assert_allclose(float(gradient) * 2, float(jax.jit(loss)(2.0)), rtol=1e-5)
    with pytest.raises(NotImplementedError, match="cannot be mapped by vmap"):
        jax.vmap(lambda token: zenith_jax.next_batch(feed, token).valid)(jnp.zeros((2, 2), jnp.uint32))
    with pytest.raises(NotImplementedError, match=r"cannot stand inside jax\.checkpoint"):
        jax.grad(jax.checkpoint(loss))(2.0)


def test_out_of_the_window_is_named(feed: zenith_jax.Feed) -> None:
    whole_epoch(feed, 8)(feed.token)[0].block_until_ready()
    with pytest.raises(FAILURES, match=r"batch 1 is out of the window: the newest batch that was given is 7"):
        jax.block_until_ready(zenith_jax.next_batch(feed, 1))
    with pytest.raises(FAILURES, match=r"batch 12 is out of the window: the next batch is 8"):
        jax.block_until_ready(zenith_jax.next_batch(feed, 12))
    # An error of one program is none of the next.
    assert int(zenith_jax.next_batch(feed, 8).valid) == BATCH


def test_a_closed_feed_is_an_error_of_the_programs_that_hold_it(feed: zenith_jax.Feed) -> None:
    program = jax.jit(lambda token: zenith_jax.next_batch(feed, token).valid)
    assert int(program(feed.token)) == BATCH
    feed.close()
    with pytest.raises(FAILURES, match="there is no open feed with number"):
        program(feed.token).block_until_ready()
    with pytest.raises(zenith.InvalidArgumentError, match="closed"):
        feed.set_epoch(1)


def test_what_the_engine_cannot_read_comes_with_its_text(tmp_path: Path) -> None:
    path = tmp_path / "torn.parquet"
    pq.write_table(
        pa.table({"i": np.arange(4000)}), path, row_group_size=1000, compression="none", use_dictionary=False
    )
    data = bytearray(path.read_bytes())
    data[20_000:20_400] = bytes(400)
    table = zenith.Parquet(str(path))
    path.write_bytes(bytes(data[:17_000]))
    with zenith_jax.Feed(table, 400, sharding=sharding()) as feed, pytest.raises(FAILURES, match=r"torn\.parquet"):
        jax.block_until_ready(whole_epoch(feed, 10)(feed.token))


def test_values_that_do_not_fit_are_named(tmp_path: Path) -> None:
    path = tmp_path / "wide.parquet"
    pq.write_table(pa.table({"n": np.array([1, 2**40] * 8)}), path)
    with (
        zenith_jax.Feed(str(path), 8, sharding=sharding()) as feed,
        pytest.raises(FAILURES, match=r"field \"n\": 1099511627776 in row 1 of a batch does not fit int32"),
    ):
        jax.block_until_ready(zenith_jax.next_batch(feed, 0))


def test_arguments_are_checked(table: zenith.Dataset, feed: zenith_jax.Feed) -> None:
    with pytest.raises(zenith.InvalidArgumentError, match="window must be >= 2"):
        zenith_jax.Feed(table, 8, window=1)
    with pytest.raises(zenith.InvalidArgumentError, match="stall_timeout"):
        zenith_jax.Feed(table, 8, stall_timeout=0)
    with pytest.raises(TypeError, match="NamedSharding"):
        zenith_jax.Feed(table, 8, sharding=jax.sharding.SingleDeviceSharding(jax.devices()[0]))
    with pytest.raises(TypeError, match=r"token \(uint32\[2\]\)"):
        zenith_jax.next_batch(feed, jnp.zeros(3))
    with pytest.raises(ValueError, match="got -1"):
        zenith_jax.next_batch(feed, -1)
    if len(jax.devices()) == 8:
        with pytest.raises(zenith.InvalidArgumentError, match=r"batch_size=12 does not divide among 8 shards"):
            zenith_jax.Feed(table, 12, sharding=sharding())
    traced = jax.jit(lambda: zenith_jax.next_batch(feed, 0).valid).trace()
    with pytest.raises(NotImplementedError, match="next_batch runs on CPU only for now"):
        traced.lower(lowering_platforms=("cuda",))


def test_a_loader_hands_its_epochs_to_a_program_from_where_it_stands(table: zenith.Dataset) -> None:
    loader = zenith_jax.DataLoader(
        table, BATCH, shuffle=True, seed=5, sharding=sharding(), drop_last=True, num_workers=1
    )
    loop = [np.asarray(batch["i"]) for batch in loader]
    begun = zenith_jax.DataLoader(table, BATCH, shuffle=True, seed=5, sharding=sharding(), drop_last=True)
    batches = iter(begun)
    for expected in loop[:3]:
        assert np.array_equal(np.asarray(next(batches)["i"]), expected)
    with begun.feed() as feed:
        assert len(feed) == len(loop) - 3
        token, (batch, valid) = whole_epoch(feed, len(feed))(feed.token)
        assert np.array_equal(np.asarray(batch["i"]), np.stack(loop[3:]))
        assert (np.asarray(valid) == BATCH).all()
        assert feed.state_dict(token)["epoch"] == 1


def test_what_a_program_cannot_be_fed_is_refused(table: zenith.Dataset) -> None:
    for loader in (
        zenith_jax.DataLoader(table, BATCH, dtypes={"f": "bfloat16"}),
        zenith_jax.DataLoader(list(range(40)), BATCH),
    ):
        with pytest.raises(NotImplementedError, match="Zenith dataset"):
            loader.feed()
