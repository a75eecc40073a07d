"""The training loop, the same for every loader: it measures how long a step waits for its batch."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

Loss = Callable[[nn.Module, torch.Tensor, torch.Tensor], torch.Tensor]


@dataclasses.dataclass
class Result:
    """What one training run showed. `losses` holds (samples so far, loss)."""

    work: str
    loader: str
    samples_per_s: float
    waiting_share: float
    first_loss: float
    last_loss: float
    losses: list[tuple[int, float]]


def train(work: str, name: str, loader: Any, build: Callable[[], nn.Module], loss_of: Loss, seconds: float) -> Result:
    """Trains a fresh model for `seconds` on dict batches with x and y; epochs follow one another without an end.

    The clock starts at the first batch, so that neither a worker's start nor the first read counts against a loader here.
    """
    torch.manual_seed(0)
    model = build()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    batches = endless(loader)
    batch = next(batches)
    losses: list[tuple[int, float]] = []
    samples, waiting_s = 0, 0.0
    started_s = time.perf_counter()
    with tqdm(
        total=round(seconds), desc=f"{work}: {name}", bar_format="{desc:<42} {bar} {n:.0f}/{total} s {postfix}"
    ) as bar:
        while (elapsed_s := time.perf_counter() - started_s) < seconds:
            loss = loss_of(model, batch["x"], batch["y"])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            samples += len(batch["y"])
            losses.append((samples, loss.item()))
            if elapsed_s - bar.n >= 0.5:
                bar.set_postfix_str(f"loss {losses[-1][1]:.3f}", refresh=False)
                bar.update(elapsed_s - bar.n)
            asked_s = time.perf_counter()
            batch = next(batches)
            waiting_s += time.perf_counter() - asked_s
        bar.update(bar.total - bar.n)
    tail = [value for _, value in losses[-max(1, len(losses) // 10) :]]
    return Result(work, name, samples / elapsed_s, waiting_s / elapsed_s, losses[0][1], sum(tail) / len(tail), losses)


def endless(loader: Any) -> Iterator[Any]:
    """Epoch after epoch."""
    while True:
        empty = True
        for batch in loader:
            empty = False
            yield batch
        if empty:
            raise SystemExit("the loader gave no batch at all: the data are smaller than one batch")
