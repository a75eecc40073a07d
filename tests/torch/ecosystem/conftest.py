"""Real libraries from PyPI over both loaders: torch's own proves the test, ours must give the same.

Nothing here touches a network: libraries that would phone home are told not to, in the child processes too.
"""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

# Child processes and spawned workers find the modules here in the path that they inherit.
sys.path.insert(0, str(Path(__file__).parent))
from ecosystem_processes import Server

for _name in (
    "HF_HUB_OFFLINE",
    "HF_DATASETS_OFFLINE",
    "TRANSFORMERS_OFFLINE",
    "HF_HUB_DISABLE_TELEMETRY",
    "DO_NOT_TRACK",
):
    os.environ[_name] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

# What libraries warn of while they are imported is their business; afterwards every warning is an error, as elsewhere.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    for _name in (
        "datasets",
        "tensordict",
        "torch_geometric.loader",
        "torchdata.stateful_dataloader",
        "torchvision",
        "webdataset",
    ):
        importlib.import_module(_name)

ROWS = 103


@pytest.fixture(scope="session")
def server(zenith_run: str) -> Iterator[Server]:
    """Starts programs in processes of their own."""
    with Server(zenith_run) as running:
        yield running


@pytest.fixture(params=[0, 2], ids=["main", "workers"])
def workers(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture(scope="session")
def rows_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Parquet file of `ROWS` rows in several blocks: ``id`` (the row number), ``f0..f3`` float32."""
    path = tmp_path_factory.mktemp("ecosystem") / "rows.parquet"
    columns = {"id": np.arange(ROWS)}
    random = np.random.default_rng(1)
    columns |= {f"f{column}": random.random(ROWS, dtype=np.float32) for column in range(4)}
    pq.write_table(pa.table(columns), path, row_group_size=16)
    return str(path)
