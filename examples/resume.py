"""Any torch dataset with exact resume: `python -m examples.resume`.

Trains a small network for three epochs: without a break, up to a checkpoint in the midst of the second, and from there on.
The last two together take the steps of the first, loss by loss to the last bit, and no sample is loaded twice.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from torch.utils.data import Dataset
from zenith_torch import DataLoader

EPOCHS, STOP_AFTER_STEPS = 3, 40


class Spirals(Dataset[tuple[torch.Tensor, int]]):
    """Points of two spirals; stands for your dataset, which need not know of Zenith."""

    def __len__(self) -> int:
        return 2000

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        label, angle = index % 2, index / 500
        point = torch.tensor([angle, angle + torch.pi * label])
        return torch.stack([point[0] * point[1].cos(), point[0] * point[1].sin()]), label


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder, "checkpoint.pt")
        unbroken = train()
        stopped = train(save_to=checkpoint)
        resumed = train(resume_from=checkpoint)
    print(f"unbroken: {len(unbroken)} steps; stopped after {len(stopped)}; resumed for {len(resumed)}")
    if stopped + resumed != unbroken:
        raise SystemExit("the losses differ")
    print(f"the losses are the same to the last bit, down to {unbroken[-1]:.4f}")


def train(save_to: Path | None = None, resume_from: Path | None = None) -> list[float]:
    """The losses of each step; saves and stops after `STOP_AFTER_STEPS` if there is a place to save to."""
    torch.manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Linear(2, 32), torch.nn.Tanh(), torch.nn.Linear(32, 2))
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    # With a generator of its own the loader's state holds the order of the epochs to come as well.
    generator = torch.Generator().manual_seed(0)
    loader = DataLoader(Spirals(), batch_size=64, shuffle=True, num_workers=2, generator=generator)
    epoch = 0
    if resume_from is not None:
        saved = torch.load(resume_from)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        loader.load_state_dict(saved["loader"])
        epoch = saved["epoch"]
    losses: list[float] = []
    for current in range(epoch, EPOCHS):
        for points, labels in loader:
            loss = torch.nn.functional.cross_entropy(model(points), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            if save_to is not None and len(losses) == STOP_AFTER_STEPS:
                parts = {"model": model, "optimizer": optimizer, "loader": loader}
                states = {name: part.state_dict() for name, part in parts.items()}
                torch.save({**states, "epoch": current}, save_to)
                return losses
    return losses


if __name__ == "__main__":
    main()
