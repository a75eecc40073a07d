"""Writes what the demo reads: the text of the standard library as tokens, and a table with labels that can be learned."""

from __future__ import annotations

import os
import sysconfig
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

FEATURE_COUNT = 28
FEATURES: tuple[str, ...] = tuple(f"f{index:02d}" for index in range(FEATURE_COUNT))
LABEL, ROW_ID = "label", "row_id"
ROW_GROUP_ROWS = 131_072
TOKEN_COUNT_MIN = 200_000


def write_corpus(path: Path, bytes_max: int) -> int:
    """Writes the bytes of the standard library's .py files as u16 values, one per byte; returns how many."""
    if path.exists():
        return path.stat().st_size // 2
    library = Path(sysconfig.get_path("stdlib"))
    sources = sorted(source for source in library.rglob("*.py") if "site-packages" not in source.parts)
    written = 0
    part = path.with_suffix(".part")
    with part.open("wb") as sink:
        for source in tqdm(sources, desc="writing the corpus", unit="file"):
            try:
                text = source.read_bytes()
            except OSError:
                continue
            written += sink.write(np.frombuffer(text, np.uint8).astype(np.uint16).tobytes()) // 2
            if written >= bytes_max:
                break
    if written < TOKEN_COUNT_MIN:
        raise SystemExit(
            f"{library} holds only {written} bytes of Python source; the demo needs {TOKEN_COUNT_MIN}. Is it complete?"
        )
    os.replace(part, path)
    return written


def write_table(path: Path, rows: int) -> None:
    """Writes 28 × f32, the i64 `label` (0 or 1) and the i64 `row_id`; the label is a noisy function of the features."""
    if path.exists() and pq.ParquetFile(path).metadata.num_rows == rows:
        return
    fields = [*((name, pa.float32()) for name in FEATURES), (LABEL, pa.int64()), (ROW_ID, pa.int64())]
    part = path.with_suffix(".part")
    weights = np.random.default_rng(1).standard_normal((FEATURE_COUNT, 4), np.float32)
    with pq.ParquetWriter(part, pa.schema(fields)) as writer:
        for start in tqdm(range(0, rows, ROW_GROUP_ROWS), desc="writing the table", unit="row group"):
            count = min(ROW_GROUP_ROWS, rows - start)
            generator = np.random.default_rng((2, start))
            x = generator.standard_normal((count, FEATURE_COUNT), np.float32)
            hidden = np.tanh(x @ weights)
            score = hidden[:, 0] * hidden[:, 1] + hidden[:, 2] + 0.3 * hidden[:, 3]
            label = (score + 0.3 * generator.standard_normal(count, np.float32) > 0).astype(np.int64)
            columns = np.ascontiguousarray(x.T)
            arrays = [*map(pa.array, columns), pa.array(label), pa.array(np.arange(start, start + count))]
            writer.write_table(pa.table(dict(zip([name for name, _ in fields], arrays, strict=True))))
    os.replace(part, path)
