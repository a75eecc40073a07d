"""The warning when few blocks are open while shuffling."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from zenith_torch import DataLoader

ROWS = 20_000


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    root = tmp_path_factory.mktemp("groups")
    table = pa.table({"id": np.arange(ROWS)})
    for groups in (10, 200):
        pq.write_table(table, root / f"{groups}.parquet", row_group_size=ROWS // groups)
    return {groups: root / f"{groups}.parquet" for groups in (10, 200)}


def warned(path: Path, **options: object) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loader = DataLoader(path, batch_size=5000, seed=1, **options)
        for _ in range(2):
            list(loader)
    return [str(warning.message) for warning in caught]


def test_few_open_blocks_are_told_once_with_what_to_do(files: dict[int, Path]) -> None:
    for options in ({"lanes": 8}, {"lanes": 16}, {}):
        (message,) = warned(files[10], shuffle=True, shuffle_bytes=40 << 10, **options)
        assert "of 10 blocks are open" in message
        assert "smaller row groups" in message
        assert "shuffle_bytes, now 40960" in message


def test_it_names_the_line_of_the_user(files: dict[int, Path]) -> None:
    loader = DataLoader(files[10], shuffle=True, seed=1, shuffle_bytes=40 << 10)
    with pytest.warns(UserWarning, match="blocks are open") as caught:
        iter(loader)
    assert caught[0].filename == __file__


@pytest.mark.parametrize(
    ("groups", "options"),
    [
        (10, {"shuffle": True}),  # The whole dataset is one window.
        (10, {"shuffle": False, "shuffle_bytes": 40 << 10}),
        (200, {"shuffle": True, "shuffle_bytes": 40 << 10, "lanes": 64}),
    ],
)
def test_enough_mixing_is_not_remarked_on(files: dict[int, Path], groups: int, options: dict) -> None:
    assert warned(files[groups], **options) == []
