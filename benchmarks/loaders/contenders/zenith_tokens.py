"""Zenith over the corpus: random windows, and every window once in shuffled order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.loaders.contender import SEQUENCE_LENGTH, TOKEN_BATCH, Contender, Feed
from benchmarks.loaders.contenders.zenith_rows import ZenithFeed
from benchmarks.loaders.data import Files


def open_tokens(random: bool, num_workers: int) -> Callable[[Files], Feed]:
    """Opens the corpus with random windows or with windows of stride `SEQUENCE_LENGTH`, shuffled."""

    def open_feed(files: Files) -> Feed:
        import zenith
        from zenith_torch import DataLoader

        options: dict[str, Any] = {"random": True} if random else {}
        dataset = zenith.Tokens(files.token_file, dtype="uint16", seq_len=SEQUENCE_LENGTH, **options)
        return ZenithFeed(
            DataLoader(
                dataset, batch_size=TOKEN_BATCH, shuffle=not random, num_workers=num_workers, seed=0, output="tuple"
            )
        )

    return open_feed


CONTENDERS = [
    Contender(
        name=f"zenith-tokens-{'random' if random else 'shuffled'}-w{num_workers}",
        title=f"Zenith, {num_workers} threads",
        work="tokens",
        order="random" if random else "shuffled",
        open=open_tokens(random, num_workers),
        path=lambda files: files.token_file,
        requires=("torch", "zenith", "zenith_torch"),
        skipped_by_default=num_workers in (0, 4),
    )
    for random in (True, False)
    for num_workers in (0, 1, 2, 4)
]
