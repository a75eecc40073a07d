"""zenith.WebDataset against the WebDataset library and Python's tarfile, on shards that they wrote."""

from __future__ import annotations

import gc
import io
import json
import os
import pickle
import subprocess
import sys
import tarfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import braceexpand
import numpy as np
import pytest
import torch
import webdataset
import zenith
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from zenith.webdataset import _braces
from zenith_torch import DataLoader

# The library leaves tar files for the garbage collector to close.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
SHARDS, EACH = 3, 150
COUNT = SHARDS * EACH


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:
    """So that no later test meets those files."""
    yield
    gc.collect()


def array(number: int) -> np.ndarray[Any, Any]:
    return np.full((2, 3), number, dtype=np.float32) + np.arange(3, dtype=np.float32)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three shards, about ten megabytes in all, so that each has several blocks."""
    root = tmp_path_factory.mktemp("shards")
    random = np.random.default_rng(5)
    for shard in range(SHARDS):
        with webdataset.TarWriter(str(root / f"train-{shard:03}.tar")) as sink:
            for number in range(shard * EACH, (shard + 1) * EACH):
                sink.write(
                    {
                        "__key__": f"some/dir.x/{number:06}",
                        "bin": random.bytes(int(random.integers(0, 160_000))),
                        "cls": number,
                        "txt": f"caption {number} é",
                        "json": {"id": number, "words": ["a", None, 1.5]},
                        "vector.npy": array(number),
                    }
                )
    return root


def library(root: Path) -> list[dict[str, Any]]:
    """The samples as the library reads them."""
    urls = sorted(str(path) for path in root.iterdir())
    return [dict(sample) for sample in webdataset.WebDataset(urls, shardshuffle=False).decode()]


def plain(value: Any) -> Any:
    if isinstance(value, (np.ndarray, torch.Tensor)):
        return value.tolist()
    return value


def test_samples_are_the_library_s(shards: Path) -> None:
    dataset = zenith.WebDataset(shards)
    expected = library(shards)
    assert len(dataset) == len(expected) == COUNT
    assert {info.name: info.kind for info in dataset.schema} == {
        "bin": "binary",
        "cls": "dense",
        "txt": "text",
        "json": "json",
        "vector.npy": "dense",
    }
    for sample, theirs in zip(dataset.__getitems__(range(COUNT)), expected, strict=True):
        assert {name: plain(value) for name, value in sample.items()} == {name: plain(theirs[name]) for name in sample}
    keys = zenith.WebDataset(shards / "*.tar", {"__key__": str})
    assert [sample["__key__"] for sample in keys.__getitems__(range(COUNT))] == [
        theirs["__key__"] for theirs in expected
    ]


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_what_indexing_gives(shards: Path, workers: int) -> None:
    dataset = zenith.WebDataset(shards)
    loader = DataLoader(dataset, batch_size=32, num_workers=workers)
    assert loader.explain().startswith("native")
    for first, batch in zip(range(0, COUNT, 32), loader, strict=True):
        samples = dataset.__getitems__(range(first, min(first + 32, COUNT)))
        assert batch["vector.npy"].dtype == torch.float32
        for name, values in batch.items():
            assert plain(values) == [plain(sample[name]) for sample in samples], name


def test_resuming_in_mid_shard_for_other_workers_and_ranks(shards: Path) -> None:
    dataset = zenith.WebDataset(shards, {"cls": int, "bin": bytes})

    def loader(workers: int, rank: int = 0, world: int = 1, batch: int = 12) -> DataLoader:
        return DataLoader(
            dataset,
            batch_size=batch,
            shuffle=True,
            seed=5,
            num_workers=workers,
            rank=rank,
            world_size=world,
            tail="pad",
        )

    whole = [(batch["cls"].tolist(), batch["bin"]) for batch in loader(1)]
    order = [number for numbers, _ in whole for number in numbers]
    assert sorted(order) == list(range(COUNT))
    assert order != list(range(COUNT))
    first = loader(1)
    stream = iter(first)
    for _ in range(7):
        next(stream)
    state = first.state_dict()
    again = loader(2)
    again.load_state_dict(state)
    assert [(batch["cls"].tolist(), batch["bin"]) for batch in again] == whole[7:]
    parts = []
    for rank in range(2):
        part = loader(2, rank, 2, 6)
        part.load_state_dict(state)
        parts.append([number for batch in part for number in batch["cls"].tolist()])
    woven = [number for pair in zip(*parts, strict=True) for number in pair]
    assert woven == order[84:]


def test_views_are_native(shards: Path) -> None:
    dataset = zenith.WebDataset(shards, {"cls": int})
    train, test = dataset.split(0.8, seed=1)
    both = [int(sample["cls"]) for part in (train, test) for sample in part.__getitems__(range(len(part)))]
    assert sorted(both) == list(range(COUNT))
    for part in (train, test, dataset.select([7, 8, 300, 9]), dataset.concat(test)):
        loader = DataLoader(part, batch_size=10, num_workers=2)
        assert loader.explain().startswith("native")
        read = [number for batch in loader for number in batch["cls"].tolist()]
        assert read == [int(sample["cls"]) for sample in part.__getitems__(range(len(part)))]


def test_fields_are_decoded_as_asked(shards: Path) -> None:
    dataset = zenith.WebDataset(
        shards / "train-{000..001}.tar",
        {
            "key": ("__key__", str),
            "png;bin;jpg": bytes,
            "number": ("cls", float),
            "VECTOR.npy": np.ndarray,
            "raw": ("json", "bytes"),
            "also": ("json", dict),
        },
    )
    assert len(dataset) == 2 * EACH
    for sample, theirs in zip(dataset.__getitems__([0, 299]), [library(shards)[i] for i in (0, 299)], strict=True):
        assert sample["key"] == theirs["__key__"]
        assert sample["png;bin;jpg"] == theirs["bin"]
        assert sample["number"].dtype == np.float64
        assert sample["number"] == theirs["cls"]
        np.testing.assert_array_equal(sample["VECTOR.npy"], theirs["vector.npy"])
        assert json.loads(sample["raw"]) == sample["also"] == theirs["json"]
    for bad in (bool, "jpeg", None, 7):
        with pytest.raises(TypeError, match=r"fields\['x'\] must be int"):
            zenith.WebDataset(shards, {"x": bad})
    with pytest.raises(ValueError, match="duplicate must be one of"):
        zenith.WebDataset(shards, duplicate="second")


def test_pickles_and_the_file_that_changed(shards: Path, tmp_path: Path) -> None:
    dataset = zenith.WebDataset(shards, {"cls": int})
    again = pickle.loads(pickle.dumps(dataset))
    assert (again.fingerprint, len(again), again.schema) == (dataset.fingerprint, COUNT, dataset.schema)
    shard = tmp_path / "a.tar"
    write(shard, [("a.cls", b"1"), ("b.cls", b"2")])
    mine = zenith.WebDataset(shard)
    pickled = pickle.dumps(mine)
    loader = DataLoader(mine, batch_size=1)
    write(shard, [("a.cls", b"1"), ("b.cls", b"2"), ("c.cls", b"3")])
    with pytest.raises(zenith.DatasetChangedError, match=r"a\.tar"):
        list(loader)
    with pytest.raises(zenith.DatasetChangedError):
        pickle.loads(pickled)


def write(path: Path, members: list[tuple[str, bytes]], **options: Any) -> None:
    with tarfile.open(path, "w", **options) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


NAMES = st.text(st.sampled_from("ab/._Ä-"), min_size=1, max_size=12) | st.text("ab./", min_size=95, max_size=300)


@pytest.mark.filterwarnings("ignore:.*lack a member:UserWarning")
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    names=st.lists(NAMES, min_size=1, max_size=12),
    format=st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
    sizes=st.integers(0, 1200),
)
def test_names_are_what_the_library_makes_of_them(tmp_path: Path, names: list[str], format: int, sizes: int) -> None:
    """Whatever it makes of names, with whichever headers tarfile writes long ones."""
    path = tmp_path / "n.tar"
    members = [(name, bytes([i]) * (sizes * i % 1300)) for i, name in enumerate(names)]
    try:
        write(path, members, format=format)
    except ValueError:  # ustar has no room for it
        return
    source = webdataset.WebDataset([str(path)], shardshuffle=False, empty_check=False)
    try:
        theirs = [(s["__key__"], {k: v for k, v in s.items() if k[:2] != "__"}) for s in source]
    except ValueError:  # a name twice
        with pytest.raises(zenith.InvalidArgumentError, match="stands in the shard a second time"):
            zenith.WebDataset(path, {"__key__": str})
        return
    keys = [key for key, _ in theirs]
    if not theirs:
        with pytest.raises(zenith.NotFoundError, match="no sample"):
            zenith.WebDataset(path, {"__key__": str})
    elif len(set(keys)) < len(keys):
        with pytest.raises(zenith.InvalidArgumentError, match=r"sample .* stands in the shard a second time"):
            zenith.WebDataset(path, {"__key__": str})
    else:
        ours = zenith.WebDataset(path, {"__key__": str})
        assert [sample["__key__"] for sample in ours.__getitems__(range(len(ours)))] == keys
        for name in {name for _, members in theirs for name in members if name.strip("_;") == name}:
            field = zenith.WebDataset(path, {"x": (name, bytes)}, missing="skip")
            found = [sample["x"] for sample in field.__getitems__(range(len(field)))]
            assert found == [members[name] for _, members in theirs if name in members]


def test_hostile_archives_are_read_as_tarfile_reads_them_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "h.tar"
    kinds = [tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]
    names = ["../../outside.txt", "/absolute.txt", "./here.txt", "a\\b.txt", "new\nline.txt"]
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT, pax_headers={"comment": "all"}) as tar:
        for number, kind in enumerate(kinds):
            info = tarfile.TarInfo(f"odd{number}.txt")
            info.type, info.linkname = kind, "../../etc/passwd"
            tar.addfile(info)
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(name)
            tar.addfile(info, io.BytesIO(name.encode()))
    dataset = zenith.WebDataset(path, {"__key__": str, "txt": str})
    read = [(sample["__key__"] + ".txt", sample["txt"]) for sample in dataset.__getitems__(range(len(dataset)))]
    assert read == [(name, name) for name in names]
    assert sorted(os.listdir(tmp_path)) == ["h.tar"], "no file is made by a member's name"
    for address in ("pipe:cat /etc/passwd", f"file:{path}", "s3://bucket/a.tar"):
        with pytest.raises(zenith.UnsupportedError, match="is not opened"):
            zenith.WebDataset(address)
    for name in ("pkl", "pyd", "pt", "pth", "x.pickle"):
        write(path, [(f"a.{name}", pickle.dumps(1)), ("a.cls", b"1")])
        with pytest.raises(zenith.UnsupportedError, match="pickles"):
            zenith.WebDataset(path)
        assert pickle.loads(zenith.WebDataset(path, {name: bytes})[0][name]) == 1
    write(tmp_path / "z.tar", [("a.cls", b"1")])
    with tarfile.open(path, "w:gz") as tar:
        tar.add(tmp_path / "z.tar")
    with pytest.raises(zenith.UnsupportedError, match="compressed as a whole"):
        zenith.WebDataset(path)


def test_every_cut_of_a_shard_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "c.tar"
    write(path, [(f"{number}.{name}", f"{number}".encode() * 200) for number in range(3) for name in ("a", "b")])
    whole = path.read_bytes()[: 6 * 1024 + 1024]
    fields = {"__key__": str, "a": bytes, "b": bytes}
    path.write_bytes(whole)
    samples = zenith.WebDataset(path, fields).__getitems__(range(3))
    for size in range(0, 6 * 1024 + 512, 13):
        path.write_bytes(whole[:size])
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            try:
                dataset = zenith.WebDataset(path, fields)
            except (zenith.CorruptError, zenith.InvalidArgumentError, zenith.NotFoundError):
                try:
                    dataset = zenith.WebDataset(path, fields, truncated="skip", missing="skip")
                except (zenith.CorruptError, zenith.NotFoundError):
                    assert size <= 2048 + 1023, "a whole sample and the beginning of the next are there"
                    continue
        assert told, f"cut at {size}"
        assert dataset.__getitems__(range(len(dataset))) == samples[: len(dataset)]
        assert len(dataset) >= max(size - 1023, 0) // 2048 - 1


def test_wrong_values_name_shard_member_and_byte(tmp_path: Path) -> None:
    path = tmp_path / "w.tar"
    saved = io.BytesIO()
    np.save(saved, np.zeros(4))
    other = io.BytesIO()
    np.save(other, np.zeros(5))
    good = [("a.cls", b"1"), ("a.txt", b"x"), ("a.json", b"{}"), ("a.npy", saved.getvalue())]
    for name, content, text in (
        ("cls", b"1.5", r'"1\.5" is no int64'),
        ("txt", b"\xff", "not UTF-8"),
        ("json", b"{'a': 1}", "no JSON"),
        ("npy", other.getvalue(), r"float64 \[5\], and that of the first sample float64 \[4\]"),
        ("npy", saved.getvalue()[:-1], "31 bytes of elements"),
    ):
        write(
            path,
            good
            + [
                (f"b.{extension}", content if extension == name else value)
                for (_, value), extension in zip(good, ("cls", "txt", "json", "npy"), strict=True)
            ],
        )
        dataset = zenith.WebDataset(path)
        with tarfile.open(path) as tar:
            offset = tar.getmember(f"b.{name}").offset_data
        with pytest.raises(zenith.CorruptError, match=rf"w\.tar.*member \"b\.{name}\", field .*: .*{text}") as caught:
            list(DataLoader(dataset, batch_size=2))
        assert (caught.value.offset, caught.value.field) == (offset, name)


def test_the_index_is_kept_and_made_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shards: Path) -> None:
    monkeypatch.setenv("ZENITH_CACHE_DIR", str(tmp_path / "cache"))
    table = tmp_path / "t.csv"
    table.write_text("v\n1\n2\n")
    command = [sys.executable, "-m", "zenith.index", str(shards), str(table)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert f"{COUNT} samples in 3 files" in done.stdout
    assert "2 samples in 1 files" in done.stdout
    kept = {
        file.name: file.stat().st_ino for file in (tmp_path / "cache" / "index").iterdir() if "lock" not in file.name
    }
    assert len(kept) == SHARDS + 1
    assert len(zenith.WebDataset(shards)) == COUNT
    after = {
        file.name: file.stat().st_ino for file in (tmp_path / "cache" / "index").iterdir() if "lock" not in file.name
    }
    assert after == kept
    failed = subprocess.run([*command[:3], str(tmp_path / "none.tar")], capture_output=True, text=True, timeout=60)
    assert failed.returncode == 1
    assert "none.tar" in failed.stderr


def test_open_and_loaders_take_paths(shards: Path) -> None:
    assert isinstance(zenith.open(shards), zenith.WebDataset)
    batch = next(iter(DataLoader(str(shards / "*.tar"), batch_size=4)))
    assert batch["cls"].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "pattern", ["a-{000..012}.tar", "{8..11}/{x,y}.tar", "a{5..3}b", "{a,b{c,d}", "plain.tar", "x{}y"]
)
def test_braces_are_what_the_library_takes_them_for(pattern: str) -> None:
    try:
        expected = list(braceexpand.braceexpand(pattern))
    except ValueError:  # unbalanced
        return
    assert _braces(pattern) == expected


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_beyond_eight_gibibytes(tmp_path: Path, format: int) -> None:
    """Their sizes do not fit ustar's field: GNU writes them in base 256, PAX as a record. The file is a hole on disk."""
    path = tmp_path / "large.tar"
    size = (8 << 30) + 5
    with path.open("wb") as file:
        for name, content, length in (
            ("a.bin", b"", size),
            ("a.cls", b"12", 2),
            ("b.bin", b"xy", 2),
            ("b.cls", b"34", 2),
        ):
            info = tarfile.TarInfo(name)
            info.size = length
            file.write(info.tobuf(format))
            file.write(content)
            file.seek(file.tell() - len(content) + -(-length // 512) * 512)
        file.truncate(file.tell() + 1024)
    with tarfile.open(path) as tar:
        assert [member.size for member in tar] == [size, 2, 2, 2]
    dataset = zenith.WebDataset(path, {"cls": int, "__key__": str})
    assert [(int(sample["cls"]), sample["__key__"]) for sample in dataset.__getitems__([0, 1])] == [
        (12, "a"),
        (34, "b"),
    ]
    assert zenith.WebDataset(path, {"bin": bytes}).select([1])[0]["bin"] == b"xy"


def test_an_interrupt_ends_indexing(tmp_path: Path) -> None:
    """Opening a shard of many members looks for Ctrl-C on its way."""
    path = tmp_path / "many.tar"
    with path.open("wb") as file:
        header = tarfile.TarInfo("a.txt").tobuf(tarfile.USTAR_FORMAT)
        for _ in range(30):
            file.write(header * 10_000)
    code = f"""
import os, signal, threading, time, zenith
threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    zenith.WebDataset({str(path)!r})
except KeyboardInterrupt:
    print("interrupted")
"""
    environment = {**os.environ, "ZENITH_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=environment)
    assert done.stdout == "interrupted\n", done.stderr
    assert not [file for file in (tmp_path / "cache").rglob("*") if file.is_file() and "lock" not in file.name]
