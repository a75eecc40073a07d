"""zenith.Parquet(fields=...): which columns are delivered, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zenith


@pytest.fixture
def path(tmp_path: Path) -> Path:
    image = pa.array([{"bytes": b"abc", "path": "x.jpg"}, {"bytes": None, "path": "y.jpg"}])
    table = pa.table({"label": [1, 2], "image": image, "text": ["a", "b"]})
    pq.write_table(table, tmp_path / "a.parquet")
    return tmp_path / "a.parquet"


def test_fields_are_columns_in_their_order(path: Path) -> None:
    dataset = zenith.Parquet(path, fields={"text": None, "label": None})
    assert [info.name for info in dataset.schema] == ["text", "label"]
    assert dataset.fingerprint == zenith.Parquet(path, columns=["text", "label"]).fingerprint
    assert dataset[1] == {"text": "b", "label": 2}


def test_what_makes_no_sense_is_refused(path: Path) -> None:
    for given in ({"columns": ["text"]}, {"stack": {"x": ["label"]}}):
        with pytest.raises(ValueError, match="without columns and stack"):
            zenith.Parquet(path, fields={"label": None}, **given)
    for transforms in (int, "jpg", [], lambda picture: picture):
        with pytest.raises(TypeError, match=r"fields\['image'\] must be transforms"):
            zenith.Parquet(path, fields={"image": transforms})
    with pytest.raises(zenith.NotFoundError, match="nothing"):
        zenith.Parquet(path, fields={"nothing": None})
