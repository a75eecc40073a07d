"""Blocks that cannot be read: left out on one device, and on several their places are taken, so that all keep their rows."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zenith
from zenith_jax import DataLoader

from tests.jax.meshes import by_rows, flat, ids


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """Samples 0 to 999 in blocks of 100, of which the fourth is damaged."""
    path = tmp_path / "damaged.parquet"
    pq.write_table(pa.table({"id": np.arange(1000)}), path, row_group_size=100, use_dictionary=False)
    offset = pq.ParquetFile(path).metadata.row_group(3).column(0).data_page_offset
    content = bytearray(path.read_bytes())
    content[offset : offset + 16] = b"\xff" * 16
    path.write_bytes(content)
    return path


def test_they_are_an_error_that_names_them(damaged: Path) -> None:
    with pytest.raises(zenith.CorruptError) as raised:
        list(DataLoader(damaged, 40, sharding=by_rows(jax.device_count())))
    assert (raised.value.file, raised.value.block) == (damaged.name, 3)


@pytest.mark.parametrize("shards", [1, 2, 8])
def test_they_are_passed_over(damaged: Path, shards: int) -> None:
    good = [*range(300), *range(400, 1000)]
    loader = DataLoader(damaged, 40, sharding=by_rows(shards), on_error="skip", num_workers=1)
    batches = ids(loader)
    assert loader.stats()["skipped_samples"] == 100
    assert set(flat(batches)) == set(good)
    if shards == 1:
        assert flat(batches) == good
    else:
        assert [len(batch) for batch in batches] == [40] * 25
