"""zenith.Csv against Python's csv and pyarrow.csv, on files that they wrote."""

from __future__ import annotations

import contextlib
import csv
import fcntl
import gzip
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pytest
import torch
import zenith
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from zenith_torch import DataLoader

ROWS = 20_011


@pytest.fixture(scope="module")
def table() -> pa.Table:
    random = np.random.default_rng(3)
    words = [f"word {i}" if i % 3 else f'a "quoted", {i}\nsecond line' for i in range(ROWS)]
    return pa.table(
        {
            "id": np.arange(ROWS),
            "small": random.integers(-100, 100, ROWS),
            "x": random.standard_normal(ROWS),
            "y": random.random(ROWS, dtype=np.float32) * 1e-20,
            "flag": random.random(ROWS) < 0.5,
            "words": words,
        }
    )


@pytest.fixture(scope="module", params=["csv", "csv.gz", "csv.zst", "crlf"])
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, table: pa.Table) -> Path:
    path: Path = tmp_path_factory.mktemp("csv") / f"table.{request.param}"
    if request.param == "crlf":
        path = path.with_suffix(".csv")
        rows = table.to_pylist()
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\r\n")
            writer.writeheader()
            writer.writerows(rows)
        return path
    with pa.output_stream(str(path), compression={"csv.gz": "gzip", "csv.zst": "zstd"}.get(request.param)) as sink:
        pc.write_csv(table, sink)
    return path


def expected(path: Path) -> dict[str, Any]:
    """The columns as pyarrow reads them."""
    opened = pa.input_stream(str(path), compression="detect")
    read = pc.read_csv(opened, parse_options=pc.ParseOptions(newlines_in_values=True))
    return {name: read[name].to_pylist() for name in read.column_names}


def test_samples_and_batches_are_pyarrow_s(path: Path, table: pa.Table) -> None:
    dataset = zenith.Csv(path)
    columns = expected(path)
    assert len(dataset) == ROWS
    assert [info.dtype for info in dataset.schema] == ["int64", "int64", "float64", "float64", "bool", None]
    some = list(range(0, ROWS, 97))
    for index, sample in zip(some, dataset.__getitems__(some), strict=True):
        assert {name: value if isinstance(value, str) else value.item() for name, value in sample.items()} == {
            name: values[index] for name, values in columns.items()
        }
    seen: dict[str, list[Any]] = {name: [] for name in columns}
    for batch in DataLoader(dataset, batch_size=1000, num_workers=2):
        for name, values in batch.items():
            seen[name] += values.tolist() if isinstance(values, torch.Tensor) else values
    assert seen == columns


def test_shuffled_epochs_and_resume(path: Path) -> None:
    dataset = zenith.Csv(path, columns=["id", "words"])

    def loader() -> DataLoader:
        return DataLoader(dataset, batch_size=512, shuffle=True, seed=5, num_workers=2)

    whole = [(batch["id"].tolist(), batch["words"]) for batch in loader()]
    assert sorted(index for ids, _ in whole for index in ids) == list(range(ROWS))
    first = loader()
    stream = iter(first)
    for _ in range(7):
        next(stream)
    state = first.state_dict()
    second = loader()
    second.load_state_dict(state)
    assert [(batch["id"].tolist(), batch["words"]) for batch in second] == whole[7:]


def test_stack_and_dtypes(path: Path, table: pa.Table) -> None:
    dataset = zenith.Csv(path, stack={"x": ["x", "y"], "label": "small"}, dtypes={"x": "float32", "label": "int8"})
    batch = next(iter(DataLoader(dataset, batch_size=ROWS)))
    assert batch["x"].dtype == torch.float32
    assert batch["x"].shape == (ROWS, 2)
    assert batch["label"].dtype == torch.int8
    columns = expected(path)
    want = np.stack([np.float32(columns["x"]), np.float32(columns["y"])], axis=1)
    np.testing.assert_array_max_ulp(batch["x"].numpy(), want, 1)  # numpy rounds twice, by way of float64
    assert batch["label"].tolist() == columns["small"]
    wrong = zenith.Csv(path, stack={"label": "id"}, dtypes={"label": "uint8"})
    with pytest.raises(zenith.CorruptError, match='"256" is no uint8'):
        wrong[300]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.lists(st.text('ab,"\n\r \t;0', max_size=6), min_size=2, max_size=2), min_size=1, max_size=8),
    delimiter=st.sampled_from(",;\t"),
    newline=st.sampled_from(["\n", "\r\n"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_text_is_what_python_reads(
    tmp_path: Path, rows: list[list[str]], delimiter: str, newline: str, quoting: Any
) -> None:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator=newline, quoting=quoting).writerows([["p", "q"], *rows])
    path = tmp_path / "t.csv"
    path.write_bytes(text.getvalue().encode())
    # A lone carriage return ends a row for either reader, and Python's writer does not always quote it.
    with path.open(newline="") as file:
        _, *read = [row for row in csv.reader(file, delimiter=delimiter) if row]
    dataset = zenith.Csv(path, delimiter=delimiter, dtypes={"p": "str", "q": str})
    assert len(dataset) == len(read)
    if any(len(row) != 2 for row in read):
        with pytest.raises(zenith.CorruptError, match="fields where the file has 2 columns"):
            dataset.__getitems__(range(len(dataset)))
    else:
        assert [[sample["p"], sample["q"]] for sample in dataset.__getitems__(range(len(dataset)))] == read
        assert read == rows or any("\r" in text for row in rows for text in row)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.floats(allow_nan=False) | st.floats(width=32, allow_nan=False), min_size=1, max_size=20))
def test_floats_are_the_nearest(tmp_path: Path, values: list[float]) -> None:
    path = tmp_path / "t.csv"
    path.write_text("v,w\n" + "".join(f"{value!r},{value:.20e}\n" for value in values))
    dataset = zenith.Csv(path, dtypes={"v": "float64", "w": "float64"})
    for sample, value in zip(dataset.__getitems__(range(len(values))), values, strict=True):
        assert sample["v"].item() == value == sample["w"].item()
    single = zenith.Csv(path, dtypes={"v": "float32"}, columns=["v"])
    oracle = pc.read_csv(path, convert_options=pc.ConvertOptions(column_types={"v": pa.float32()}))["v"].to_numpy()
    assert [sample["v"].item() for sample in single.__getitems__(range(len(values)))] == oracle.tolist()


def test_missing_values(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,b,c\n1,x,\n,,2.5\nNA,NA,nan\n")
    with pytest.raises(zenith.UnsupportedError, match=r"row 2, field \"c\"") as caught:
        zenith.Csv(path, columns=["c"])[0]
    assert caught.value.row == 2
    assert caught.value.field == "c"
    filled = zenith.Csv(path, nulls={"a": -1, "c": 0.0, "b": "none"})
    samples = filled.__getitems__(range(3))
    assert [int(sample["a"]) for sample in samples] == [1, -1, -1]
    assert [float(sample["c"]) for sample in samples[:2]] == [0.0, 2.5]
    assert np.isnan(samples[2]["c"])
    assert [sample["b"] for sample in samples] == ["x", "none", "none"]
    kept = zenith.Csv(path, columns=["b"])
    assert [sample["b"] for sample in kept.__getitems__(range(3))] == ["x", "", "NA"]
    assert zenith.Csv(path, columns=["a"], null_values=["1"], dtypes={"a": "str"})[2]["a"] == "NA"


def test_header_and_names(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("1,2\n3,4\n")
    assert [info.name for info in zenith.Csv(path).schema] == ["1", "2"]
    bare = zenith.Csv(path, header=False)
    assert [info.name for info in bare.schema] == ["f0", "f1"]
    assert len(bare) == 2
    assert bare[0]["f0"] == 1
    named = zenith.Csv(path, names=["p", "q"])
    assert len(named) == 2
    assert named[1]["q"] == 4
    replaced = zenith.Csv(path, names=["p", "q"], header=True)
    assert len(replaced) == 1
    assert replaced[0]["p"] == 3
    with pytest.raises(zenith.InvalidArgumentError, match="3 names are given for the 2 columns"):
        zenith.Csv(path, names=["p", "q", "r"])
    other = tmp_path / "u.csv"
    other.write_text("1,3\n3,4\n")
    with pytest.raises(zenith.InvalidArgumentError, match="column 2"):
        zenith.Csv([path, other])
    both = zenith.Csv([path, other], header=False)
    assert len(both) == 4


def test_types_are_settled_over_all_files(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("v\n1\n2\n")
    (tmp_path / "b.csv").write_text("v\n1.5\n")
    dataset = zenith.Csv(tmp_path)
    assert dataset.schema[0].dtype == "float64"
    assert [float(dataset[i]["v"]) for i in range(3)] == [1, 2, 1.5]


def test_a_late_surprise_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    lines = ["v"] + [str(i) for i in range(400_000)]
    lines[300_000] = "surprise"
    path.write_text("\n".join(lines) + "\n")
    dataset = zenith.Csv(path)
    assert dataset.schema[0].dtype == "int64"
    with pytest.raises(zenith.CorruptError, match=r"row 300001, field \"v\": \"surprise\" is no int64.*dtypes"):
        for _ in DataLoader(dataset, batch_size=1000):
            pass


def test_an_open_end_is_told(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("v\n1\n2")
    with pytest.warns(UserWarning, match=r"t\.csv, line 3: no newline ends the last row"):
        dataset = zenith.Csv(path)
    assert int(dataset[1]["v"]) == 2


def test_the_index_is_kept_and_follows_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setenv("ZENITH_CACHE_DIR", str(cache))
    path = tmp_path / "t.csv"
    path.write_text("v\n1\n2\n")
    assert len(zenith.Csv(path)) == 2
    (kept,) = [file for file in (cache / "index").iterdir() if not file.name.startswith("lock-")]
    stamp = kept.stat().st_ino
    assert len(zenith.Csv(path)) == 2
    assert kept.stat().st_ino == stamp
    kept.write_bytes(kept.read_bytes()[:-1])
    assert len(zenith.Csv(path)) == 2
    assert kept.stat().st_ino != stamp, "a damaged index is made again"
    path.write_text("v\n1\n2\n3\n")
    assert len(zenith.Csv(path)) == 3
    monkeypatch.setenv("ZENITH_CACHE_DIR", "")
    assert len(zenith.Csv(path)) == 3


def test_open_tells_the_format_by_the_name(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text("a\tb\n1\t2\n")
    assert int(zenith.open(tmp_path / "t.tsv")[0]["b"]) == 2
    with gzip.open(tmp_path / "t.csv.gz", "wt") as file:
        file.write("a,b\n1,2\n")
    batch = next(iter(DataLoader(str(tmp_path / "t.csv.gz"), batch_size=1)))
    assert batch["b"].tolist() == [2]


@pytest.mark.parametrize("interrupt", [True, False])
def test_waiting_for_another_process_s_index(tmp_path: Path, interrupt: bool) -> None:
    """One process makes the index while others wait; Ctrl-C ends the waiting at once."""
    path = tmp_path / "t.csv"
    path.write_text("v\n1\n2\n")
    index = tmp_path / "cache" / "index"
    index.mkdir(parents=True)
    with contextlib.ExitStack() as locks:
        for prefix in range(256):
            lock = locks.enter_context((index / f"lock-{prefix:02x}").open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        code = f"import zenith; print('opening', flush=True); print(len(zenith.Csv({str(path)!r})))"
        child = subprocess.Popen(
            [sys.executable, "-c", code],
            env={**os.environ, "ZENITH_CACHE_DIR": str(tmp_path / "cache")},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert child.stdout is not None
        assert child.stdout.readline() == "opening\n"
        time.sleep(0.3)
        assert child.poll() is None, "it waits for the lock"
        if interrupt:
            child.send_signal(signal.SIGINT)
            _, errors = child.communicate(timeout=1)
            assert errors.endswith("KeyboardInterrupt\n")
            return
    out, errors = child.communicate(timeout=10)
    assert (out, errors) == ("2\n", "")
