"""`zenith_jax.DataLoader` over the Parquet table: the documented lines."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from benchmarks.loaders.contender import ROW_BATCH, Contender, Feed
from benchmarks.loaders.data import Files
from benchmarks.loaders.jax_tables import DEVICES, Waiting, environment, row_sharding
from benchmarks.loaders.table import FEATURES, LABEL


@dataclasses.dataclass
class ZenithFeed:
    """Dicts of arrays as (x, y)."""

    loader: Any

    def epoch(self, epoch: int) -> Iterator[Any]:
        return ((batch["x"], batch["y"]) for batch in self.loader)


def open_loader(files: Files) -> Feed:
    """Two decode threads, whatever the number of devices."""
    import zenith
    import zenith_jax

    dataset = zenith.Parquet(files.parquet, stack={"x": list(FEATURES), "y": LABEL})
    loader = zenith_jax.DataLoader(
        dataset, ROW_BATCH, shuffle=True, seed=0, sharding=row_sharding(), num_workers=2, drop_last=True
    )
    return Waiting(ZenithFeed(loader), put=False)


CONTENDERS = [
    Contender(
        name=f"zenith-{work}",
        title="Zenith, 2 threads",
        work=work,
        order="shuffled",
        open=open_loader,
        path=lambda files: files.parquet,
        requires=("jax", "zenith", "zenith_jax"),
        environment=environment(work),
    )
    for work in DEVICES
]
