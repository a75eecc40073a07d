"""Damaged and lying Parquet files: a typed error, soon, in bounded memory, and under checksums never another sample.

The files are read in a child process, whose memory and time say what a reader in this process could hide.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

sys.path.insert(0, os.path.dirname(__file__))
from thrift import I64, STRUCT, Reader, Struct, encode, varint

ROWS = 200
FLIPS = 2000
MEMORY_MIB_MAX = 96
SECONDS_MAX = 5.0


def content() -> pa.Table:
    return pa.table(
        {
            "id": np.arange(ROWS),
            "x": np.random.default_rng(1).random(ROWS, dtype=np.float32),
            "gaps": pa.array([None if i % 3 == 0 else i for i in range(ROWS)], pa.int32()),
            "text": [f"t{i % 17}" for i in range(ROWS)],
            "list": [[i] * (i % 4) for i in range(ROWS)],
        }
    )


def write(path: Path, **options: Any) -> bytes:
    pq.write_table(content(), path, row_group_size=ROWS // 2, **options)
    return path.read_bytes()


# The child: reads what it is told to, and says how that went.


def read(path: str) -> list[list[Any]]:
    import zenith

    dataset = zenith.Parquet(path, nulls={"gaps": -1})
    rows = dataset.__getitems__(range(len(dataset)))
    zenith.Parquet(path, columns=["id"], filters=[("x", "<", 0.5), ("text", "!=", "t3")])
    return [[v.tobytes() if isinstance(v, np.ndarray) else v for v in row.values()] for row in rows]


def load(path: str) -> Any:
    import zenith

    return zenith.load(path)


def variants(sound: bytes, how: str) -> Iterator[tuple[int, bytes]]:
    if how == "cuts":
        yield from ((cut, sound[:cut]) for cut in range(len(sound)))
        return
    draw = random.Random(7)
    bodies = page_bodies(sound) if how == "bodies" else [range(len(sound))]
    places = [place for body in bodies for place in body]
    for place in draw.choices(places, k=FLIPS):
        damaged = bytearray(sound)
        damaged[place] ^= 1 << draw.randrange(8)
        yield place, bytes(damaged)


def child(path: str, how: str, reader: str) -> None:
    from zenith.errors import InternalError, ZenithError

    sound = Path(path).read_bytes()
    work: Callable[[str], Any] = {"read": read, "load": load}[reader]
    expected = work(path)
    outcome: dict[str, Any] = {"errors": 0, "same": 0, "other": [], "untyped": [], "seconds": 0.0}
    before = peak_mib()
    for number, (place, damaged) in enumerate(variants(sound, how) if how != "once" else [(0, sound)]):
        # Another name each time, so that nothing that was kept about one file serves the next.
        target = f"{path}.{number}.parquet"
        Path(target).write_bytes(damaged)
        started = time.monotonic()
        try:
            found = work(target)
            same = found.equals(expected) if isinstance(found, pa.Table) else found == expected
            if same:
                outcome["same"] += 1
            else:
                outcome["other"].append(place)
        except ZenithError as error:
            outcome["errors"] += 1
            if isinstance(error, InternalError):
                outcome["untyped"].append(f"{place}: {error}")
        except Exception as error:
            outcome["untyped"].append(f"{place}: {error!r}")
        outcome["seconds"] = max(outcome["seconds"], time.monotonic() - started)
        os.unlink(target)
    print(json.dumps({**outcome, "mib": peak_mib() - before}))


def child_one(path: str, reader: str) -> None:
    """Reads one lying file, after a sound one has warmed everything up."""
    from zenith.errors import ZenithError

    work: Callable[[str], Any] = {"read": read, "load": load}[reader]
    work(str(Path(path).with_name("sound.parquet")))
    before, started = peak_mib(), time.monotonic()
    try:
        work(path)
        kind = "none"
    except ZenithError as error:
        kind = f"{type(error).__name__}: {error}"
    print(json.dumps({"kind": kind, "mib": peak_mib() - before, "seconds": time.monotonic() - started}))


def peak_mib() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def run(*arguments: str) -> dict[str, Any]:
    command = [sys.executable, __file__, *arguments]
    environment = {**os.environ, "ZENITH_CACHE_DIR": ""}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    outcome: dict[str, Any] = json.loads(done.stdout)
    return outcome


def page_bodies(sound: bytes) -> list[range]:
    """Where the bodies of the pages are: what the checksum in the header before them is the checksum of."""
    size = int.from_bytes(sound[-8:-4], "little")
    footer = Reader(sound[-8 - size : -8]).struct()
    bodies = []
    for group in footer[4][1][1]:
        for column in group[1][1][1]:
            meta = column[3][1]
            position = min(meta[key][1] for key in (9, 11) if key in meta)
            end = position + meta[7][1]
            while position < end:
                reader = Reader(sound[position:end])
                header = reader.struct()
                body = range(position + reader.position, position + reader.position + header[3][1])
                assert zlib.crc32(sound[body.start : body.stop]) == header[4][1] & 0xFFFFFFFF
                bodies.append(body)
                position = body.stop
    return bodies


def check_bounds(outcome: dict[str, Any]) -> None:
    assert outcome["mib"] < MEMORY_MIB_MAX, outcome
    assert outcome["seconds"] < SECONDS_MAX, outcome


@pytest.mark.parametrize("reader", ["read", "load"])
def test_a_file_cut_at_any_byte_is_an_error(tmp_path: Path, reader: str) -> None:
    path = tmp_path / "x.parquet"
    count = len(write(path))
    outcome = run("many", str(path), "cuts", reader)
    assert (outcome["errors"], outcome["untyped"]) == (count, []), outcome
    check_bounds(outcome)


@pytest.mark.parametrize("reader", ["read", "load"])
@pytest.mark.parametrize(
    "options", [{}, {"write_page_checksum": True, "compression": "zstd"}], ids=["plain", "checksums"]
)
def test_a_flipped_bit_anywhere_is_survived(tmp_path: Path, options: dict[str, Any], reader: str) -> None:
    path = tmp_path / "x.parquet"
    write(path, **options)
    outcome = run("many", str(path), "anywhere", reader)
    assert outcome["untyped"] == []
    assert outcome["errors"] > FLIPS / 4, outcome
    check_bounds(outcome)


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("codec", ["none", "snappy"])
def test_a_flipped_bit_under_a_checksum_is_always_an_error(tmp_path: Path, codec: str, version: str) -> None:
    path = tmp_path / "x.parquet"
    write(path, write_page_checksum=True, compression=codec, data_page_version=version)
    outcome = run("many", str(path), "bodies", "read")
    assert outcome["errors"] == FLIPS, outcome
    assert outcome["untyped"] == []
    check_bounds(outcome)


# Files that lie.


def with_footer(sound: bytes, change: Callable[[Struct], None]) -> bytes:
    size = int.from_bytes(sound[-8:-4], "little")
    footer = Reader(sound[-8 - size : -8]).struct()
    change(footer)
    return with_raw_footer(sound, encode(footer))


def with_raw_footer(sound: bytes, footer: bytes) -> bytes:
    size = int.from_bytes(sound[-8:-4], "little")
    return sound[: -8 - size] + footer + len(footer).to_bytes(4, "little") + b"PAR1"


def with_page(sound: bytes, column: int, change: Callable[[Struct], None], body: bytes | None = None) -> bytes:
    """The first page of a column with another header, put at the end of the data and pointed to."""
    size = int.from_bytes(sound[-8:-4], "little")
    footer = Reader(sound[-8 - size : -8]).struct()
    meta = footer[4][1][1][0][1][1][1][column][3][1]
    start = min(meta[key][1] for key in (9, 11) if key in meta)
    chunk = sound[start : start + meta[7][1]]
    reader = Reader(chunk)
    header = reader.struct()
    rest = chunk[reader.position :] if body is None else body
    change(header)
    moved = encode(header) + rest
    shift = len(sound) - 8 - size - start
    for key in (9, 11):
        if key in meta:
            meta[key] = I64, meta[key][1] + shift + (len(moved) - len(chunk) if meta[key][1] > start else 0)
    meta[7] = I64, len(moved)
    footer_bytes = encode(footer)
    return sound[: -8 - size] + moved + footer_bytes + len(footer_bytes).to_bytes(4, "little") + b"PAR1"


def group_of(footer: Struct) -> Struct:
    group: Struct = footer[4][1][1][0]
    return group


def column_of(footer: Struct, at: int) -> Struct:
    column: Struct = group_of(footer)[1][1][1][at][3][1]
    return column


def put(fields: Struct, key: int, value: Any) -> None:
    fields[key] = fields[key][0], value


def nested(depth: int) -> bytes:
    """A footer with a struct of an unknown field in a struct, and so on."""
    return b"\x1c" * depth + b"\0" * (depth + 1)


def columns(count: int) -> Callable[[Struct], None]:
    def change(footer: Struct) -> None:
        elements = footer[2][1][1]
        put(footer, 2, (STRUCT, [elements[0]] + [elements[1]] * count))
        put(elements[0], 5, count)

    return change


LIES: dict[str, Callable[[bytes], bytes]] = {
    "nothing": lambda _: b"",
    "zeros": lambda _: bytes(1 << 20),
    "another magic": lambda sound: sound[:-4] + b"PAR2",
    "noise": lambda _: b"PAR1" + random.Random(1).randbytes(433) + b"PAR1",
    "footer as long as the file": lambda sound: sound[:-8] + len(sound).to_bytes(4, "little") + b"PAR1",
    "footer of 4 GiB": lambda sound: sound[:-8] + b"\xff\xff\xff\xff" + b"PAR1",
    "rows -1": lambda sound: with_footer(sound, lambda footer: put(group_of(footer), 3, -1)),
    "rows 1e9": lambda sound: with_footer(
        sound, lambda footer: (put(group_of(footer), 3, 10**9), put(footer, 3, 10**9 + ROWS // 2))[0]
    ),
    "values 1e9": lambda sound: with_footer(sound, lambda footer: put(column_of(footer, 0), 5, 10**9)),
    "rows and values 1e9": lambda sound: with_footer(
        sound,
        lambda footer: [
            put(group_of(footer), 3, 10**9),
            put(footer, 3, 10**9 + ROWS // 2),
            *(put(column_of(footer, at), 5, 10**9) for at in range(5)),
        ][0],
    ),
    "chunk size -5": lambda sound: with_footer(sound, lambda footer: put(column_of(footer, 0), 7, -5)),
    "chunk size 2^40": lambda sound: with_footer(sound, lambda footer: put(column_of(footer, 0), 7, 2**40)),
    "unpacked size -5": lambda sound: with_footer(sound, lambda footer: put(column_of(footer, 0), 6, -5)),
    "offset -9": lambda sound: with_footer(sound, lambda footer: put(column_of(footer, 1), 9, -9)),
    "offset 2^62": lambda sound: with_footer(sound, lambda footer: put(column_of(footer, 1), 9, 2**62)),
    "nested 100000 deep": lambda sound: with_raw_footer(sound, nested(100_000)),
    "1e6 columns": lambda sound: with_footer(sound, columns(10**6)),
    "2^31 row groups": lambda sound: with_raw_footer(sound, b"\x15\x04" + b"\x19\xfc" + varint(2**31) + b"\x00" * 8),
    "page values 1e9": lambda sound: with_page(sound, 1, lambda page: put(page[5][1], 1, 10**9)),
    "page values -1": lambda sound: with_page(sound, 1, lambda page: put(page[5][1], 1, -1)),
    "page unpacked 2 GiB": lambda sound: with_page(sound, 1, lambda page: put(page, 2, 2**31 - 1)),
    "page unpacked -1": lambda sound: with_page(sound, 3, lambda page: put(page, 2, -1)),
    "page packed -1": lambda sound: with_page(sound, 3, lambda page: put(page, 3, -1)),
    "page packed 2 GiB": lambda sound: with_page(sound, 4, lambda page: put(page, 3, 2**31 - 1)),
    "bit width 254": lambda sound: with_page(sound, 0, lambda page: put(page[5][1], 2, 8)),
    "text values 1e9": lambda sound: with_page(sound, 3, lambda page: put(page[5][1], 1, 10**9)),
    "list values 1e9": lambda sound: with_page(sound, 4, lambda page: put(page[5][1], 1, 10**9)),
    "unknown encoding": lambda sound: with_page(sound, 3, lambda page: put(page[5][1], 2, 77)),
    "unknown page": lambda sound: with_page(sound, 3, lambda page: put(page, 1, 9)),
}


@pytest.mark.parametrize("reader", ["read", "load"])
@pytest.mark.parametrize("lie", LIES)
def test_a_file_that_lies_is_an_error(tmp_path: Path, lie: str, reader: str) -> None:
    path = tmp_path / "x.parquet"
    sound = write(path, use_dictionary=False, compression="none")
    path.with_name("sound.parquet").write_bytes(sound)
    path.write_bytes(LIES[lie](sound))
    outcome = run("one", str(path), reader)
    assert outcome["kind"] != "none", "a lie was believed"
    assert not outcome["kind"].startswith("InternalError"), outcome
    check_bounds(outcome)


def test_dictionaries_that_lie(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    sound = write(path, compression="none")
    path.with_name("sound.parquet").write_bytes(sound)
    for count in (-1, 10**9, 2**31 - 1):
        path.write_bytes(with_page(sound, 3, lambda page, count=count: put(page[7][1], 1, count)))
        outcome = run("one", str(path), "read")
        assert outcome["kind"].split(":")[0] in ("CorruptError", "BudgetError"), outcome
        check_bounds(outcome)


@pytest.mark.parametrize("codec", ["snappy", "zstd", "gzip", "lz4", "brotli"])
def test_bombs(tmp_path: Path, codec: str) -> None:
    """A page of 256 MiB of zeros in a file that is a thousand times smaller."""
    path = tmp_path / "x.parquet"
    write(path.with_name("sound.parquet"))
    zeros = pa.table({"id": [0], "x": [0.0], "gaps": [0], "text": ["\0" * (256 << 20)]})
    pq.write_table(zeros, path, compression=codec, use_dictionary=False, write_statistics=False)
    ratio = (256 << 20) / path.stat().st_size
    outcome = run("one", str(path), "read")
    if ratio >= 200:
        assert outcome["kind"].startswith("BudgetError"), outcome
        check_bounds(outcome)
    else:
        assert codec == "snappy", ratio


if __name__ == "__main__":
    {"many": child, "one": child_one}[sys.argv[1]](*sys.argv[2:])
