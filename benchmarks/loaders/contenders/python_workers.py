"""Python datasets with 2 worker processes: the same dataset and arguments under torch's DataLoader and under Zenith's."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.loaders.contender import Contender, Feed
from benchmarks.loaders.contenders.torch_iterable import TorchFeed
from benchmarks.loaders.data import Files
from benchmarks.loaders.python_datasets import WORKS, open_loader


def open_work(package: str, work: str) -> Callable[[Files], Feed]:
    """Opens the `DataLoader` of `package` over `work`; the workers persist, so an epoch after the first starts at once."""

    def open_feed(files: Files) -> Feed:
        return TorchFeed(open_loader(package, work, WORKS[work].samples(files), persistent_workers=True))

    return open_feed


CONTENDERS = [
    Contender(
        name=f"{who}-{work}-w2",
        title=f"{who}, 2 workers: {entry.title}",
        work=work,
        order="in order",
        open=open_work(package, work),
        path=None,
        requires=("torch", package),
        skipped_by_default=entry.extra,
    )
    for work, entry in WORKS.items()
    for who, package in (("torch", "torch.utils.data"), ("zenith", "zenith_torch"))
]
