"""``on_error="skip"`` and ``"quarantine"`` on real files of which one block was damaged."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest
import zenith
from zenith_torch import DataLoader, PlanSampler

ROWS, GROUP, BAD_GROUP = 4000, 250, 5
BAD = set(range(BAD_GROUP * GROUP, (BAD_GROUP + 1) * GROUP))
ORDERS = [{}, {"shuffle": True, "seed": 3}, {"shuffle": True, "seed": 3, "shuffle_bytes": 4 << 10}]


def write_parquet(path: Path) -> None:
    table = pa.table({"id": range(ROWS), "text": [f"sample-{i:06}" for i in range(ROWS)]})
    pq.write_table(table, path, row_group_size=GROUP, write_page_checksum=True, use_dictionary=False)
    column = pq.ParquetFile(path).metadata.row_group(BAD_GROUP).column(1)
    flip(path, column.data_page_offset + column.total_compressed_size // 2)


def write_ipc(path: Path) -> None:
    table = pa.table({"id": range(ROWS), "text": [f"sample-{i:06}" for i in range(ROWS)]})
    with pa.ipc.new_file(path, table.schema) as file:
        file.write_table(table, max_chunksize=GROUP)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"sample-%06d" % (BAD_GROUP * GROUP + 7), b"\xff" * 13))


def flip(path: Path, offset: int) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= 0x55
    path.write_bytes(content)


@pytest.fixture(scope="module", params=["parquet", "arrow"])
def damaged(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("damaged") / f"a.{request.param}"
    {"parquet": write_parquet, "arrow": write_ipc}[request.param](path)
    return path


def batches(loader: DataLoader) -> list[list[int]]:
    found = []
    for batch in loader:
        assert batch["text"] == [f"sample-{i:06}" for i in batch["id"].tolist()]
        found.append(batch["id"].tolist())
    return found


def whole_order(path: Path, order: dict) -> list[int]:
    return list(
        PlanSampler(zenith.open(path), shuffle="seed" in order, **{k: v for k, v in order.items() if k != "shuffle"})
    )


def test_it_raises_by_default_and_names_the_place(damaged: Path) -> None:
    with pytest.raises(zenith.CorruptError, match=damaged.name) as raised:
        batches(DataLoader(damaged, batch_size=64))
    assert raised.value.block == BAD_GROUP


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("workers", [0, 2])
def test_at_one_rank_the_places_stay_empty(damaged: Path, order: dict, workers: int) -> None:
    loader = DataLoader(damaged, batch_size=100, num_workers=workers, on_error="skip", **order)
    whole = whole_order(damaged, order)
    expected = [[i for i in whole[start : start + 100] if i not in BAD] for start in range(0, ROWS, 100)]
    empty = expected.count([])
    assert batches(loader) == [batch for batch in expected if batch]
    stats = loader.stats()
    assert (stats["skipped_samples"], stats["skipped_blocks"], stats["skipped_batches"]) == (GROUP, 1, empty)
    assert (empty > 0) == (not order), "only file order has batches that lie in the bad block"


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("world", [2, 3, 8])
def test_at_several_ranks_good_samples_fill_the_places(damaged: Path, order: dict, world: int) -> None:
    def of(rank: int, size: int, workers: int) -> list[int]:
        loader = DataLoader(
            damaged, batch_size=size, num_workers=workers, rank=rank, world_size=world, on_error="skip", **order
        )
        found = batches(loader)
        assert len(found) == len(loader)
        assert all(len(batch) == size for batch in found[:-1])
        lost.append(loader.stats()["skipped_samples"])
        return [i for batch in found for i in batch]

    lost: list[int] = []
    whole = whole_order(damaged, order)
    repeated = whole + whole[: -ROWS % world]
    ranks = [of(rank, 32, 2) for rank in range(world)]
    for rank, found in enumerate(ranks):
        expected = repeated[rank::world]
        assert len(found) == len(expected)
        assert all(i == j for i, j in zip(found, expected, strict=True) if j not in BAD)
        assert not BAD & set(found)
    assert sum(lost) == sum(i in BAD for i in repeated)
    assert [of(rank, 50, 0) for rank in range(world)] == ranks, "what is repeated does not depend on batches or workers"


@pytest.mark.parametrize("world", [1, 2])
def test_too_many_are_an_error_that_names_the_count(damaged: Path, world: int) -> None:
    def loader(most: int) -> DataLoader:
        options = {"rank": 0, "world_size": world} if world > 1 else {}
        return DataLoader(
            damaged,
            batch_size=10,
            num_workers=2,
            on_error="skip",
            max_bad_samples=most,
            shuffle=True,
            seed=1,
            **options,
        )

    assert batches(loader(GROUP)), "as many as are bad are allowed"
    limit = GROUP // world // 2
    seen = []

    def consume() -> None:
        seen.extend(batch["id"].tolist() for batch in loader(limit))

    with pytest.raises(zenith.CorruptError, match=f"{damaged.name}.*bad samples.*max_bad_samples={limit}"):
        consume()
    unlimited = batches(
        DataLoader(damaged, batch_size=10, on_error="skip", shuffle=True, seed=1, rank=0, world_size=world)
    )
    assert seen == unlimited[: len(seen)]
    assert len(seen) > 10


@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize("order", ORDERS)
def test_a_resume_is_exact(damaged: Path, order: dict, world: int) -> None:
    def loader(workers: int, size: int = 70) -> DataLoader:
        return DataLoader(
            damaged, batch_size=size, num_workers=workers, rank=0, world_size=world, on_error="skip", **order
        )

    unbroken = batches(loader(0))
    for cut in (1, 9, 18, 20):
        first = loader(2)
        iterator = iter(first)
        head = [batch["id"].tolist() for batch in itertools.islice(iterator, cut)]
        state = first.state_dict()
        rest = loader(1, 30)
        rest.load_state_dict(state)
        joined = [i for batch in head + batches(rest) for i in batch]
        assert joined == [i for batch in unbroken for i in batch]


def test_quarantine_lists_the_unit_and_skips_it_unread(damaged: Path, tmp_path: Path) -> None:
    listed = tmp_path / "bad.jsonl"

    def loader(**options: object) -> DataLoader:
        return DataLoader(damaged, batch_size=100, on_error="quarantine", quarantine_path=listed, **options)

    first = loader(num_workers=2)
    assert first.quarantine_path == listed
    expected = batches(first)
    assert sorted(i for batch in expected for i in batch) == sorted(set(range(ROWS)) - BAD)
    lines = [json.loads(line) for line in listed.read_text().splitlines()]
    assert len(lines) == 1
    line = lines[0]
    assert (line["file"], line["block"], line["kind"]) == (str(damaged), BAD_GROUP, "Corrupt")
    assert line["rows"] == [BAD_GROUP * GROUP, (BAD_GROUP + 1) * GROUP]
    assert damaged.name in line["message"]

    # Repaired behind the back of the modification time, the block is still not looked at ...
    when = os.stat(damaged).st_mtime_ns
    bad = damaged.read_bytes()
    (tmp_path / "good").mkdir()
    good = tmp_path / "good" / damaged.name
    {".parquet": write_parquet, ".arrow": write_ipc}[damaged.suffix](good)
    if damaged.suffix == ".parquet":
        column = pq.ParquetFile(good).metadata.row_group(BAD_GROUP).column(1)
        flip(good, column.data_page_offset + column.total_compressed_size // 2)
        content = good.read_bytes()
    else:
        content = bad.replace(b"\xff" * 13, b"sample-%06d" % (BAD_GROUP * GROUP + 7))
    try:
        with open(damaged, "r+b") as file:
            file.write(content)
        os.utime(damaged, ns=(when, when))
        again = loader()
        assert batches(again) == expected
        assert again.stats()["skipped_samples"] == GROUP
        assert len(listed.read_text().splitlines()) == 1
        # ... and once the time tells that the file is another, it is.
        os.utime(damaged)
        assert sorted(i for batch in batches(loader()) for i in batch) == list(range(ROWS))
    finally:
        damaged.write_bytes(bad)


def test_quarantine_at_several_ranks_and_in_views(damaged: Path, tmp_path: Path) -> None:
    listed = tmp_path / "bad.jsonl"
    part = zenith.open(damaged).split(0.5, seed=1)[0]
    for _ in range(2):
        for rank in range(2):
            options = {"on_error": "quarantine", "quarantine_path": str(listed)}
            loader = DataLoader(part, batch_size=50, shuffle=True, seed=1, rank=rank, world_size=2, **options)
            found = {i for batch in batches(loader) for i in batch}
            assert not found & BAD
            assert loader.stats()["skipped_samples"] > 0
    assert len(listed.read_text().splitlines()) == 1


def test_a_whole_file_that_is_bad(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(
        pa.table({"id": range(100)}), path, row_group_size=10, write_page_checksum=True, use_dictionary=False
    )
    metadata = pq.ParquetFile(path).metadata
    for group in range(10):
        column = metadata.row_group(group).column(0)
        flip(path, column.data_page_offset + column.total_compressed_size - 1)
    loader = DataLoader(path, batch_size=10, on_error="skip")
    assert list(loader) == []
    assert loader.stats()["skipped_samples"] == 100
    with pytest.raises(zenith.CorruptError, match="no good sample"):
        list(DataLoader(path, batch_size=10, on_error="skip", rank=0, world_size=2))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"on_error": "quarantine"}, "needs quarantine_path="),
        ({"on_error": "skip", "quarantine_path": "bad.jsonl"}, "quarantine_path"),
        ({"on_error": "ignore"}, "ignore"),
        ({"max_bad_samples": -1}, "bad loader options"),
    ],
)
def test_contradicting_options_are_refused_at_once(damaged: Path, options: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        DataLoader(damaged, **options)


def test_a_list_that_cannot_be_written_is_an_error(damaged: Path, tmp_path: Path) -> None:
    loader = DataLoader(damaged, on_error="quarantine", quarantine_path=tmp_path / "missing" / "bad.jsonl")
    with pytest.raises(zenith.NotFoundError, match=r"quarantine_path.*|bad\.jsonl"):
        iter(loader)


def test_a_file_that_changed_is_never_skipped(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write_parquet(path)
    loader = DataLoader(path, batch_size=100, on_error="skip")
    os.utime(path, ns=(1, 1))
    with pytest.raises(zenith.DatasetChangedError):
        list(loader)
