"""Lightning with a Parquet file read natively: `python -m examples.lightning_fit` (needs `pip install lightning`).

Nothing but the import of the loader differs from a program with torch's own. The Trainer puts the loader's state into its
checkpoints by itself, so that a run that was stopped in the midst of an epoch goes on with the batch that comes next.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import zenith
from lightning.pytorch.callbacks import ModelCheckpoint
from zenith_torch import DataLoader

ROWS, FEATURES = 200_000, 8


class Regression(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(FEATURES, 1)

    def training_step(self, batch: dict[str, torch.Tensor], number: int) -> torch.Tensor:
        loss = torch.nn.functional.mse_loss(self.layer(batch["x"]).squeeze(1), batch["y"])
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), 0.02)


def write_table(path: Path) -> None:
    random = np.random.default_rng(0)
    x = random.random((ROWS, FEATURES), dtype=np.float32)
    columns = {f"f{number}": x[:, number] for number in range(FEATURES)}
    columns["y"] = x @ np.arange(FEATURES, dtype=np.float32)
    pq.write_table(pa.table(columns), path, row_group_size=20_000)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_table(Path(folder, "train.parquet"))
        stack: dict[str, Any] = {"x": [f"f{number}" for number in range(FEATURES)], "y": "y"}
        loader = DataLoader(
            zenith.Parquet(f"{folder}/*.parquet", stack=stack), batch_size=1000, shuffle=True, num_workers=1
        )
        keep = ModelCheckpoint(folder, "last", every_n_train_steps=130)
        options: dict[str, Any] = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False}
        trainer = lightning.Trainer(max_epochs=2, callbacks=[keep], **options)
        trainer.fit(Regression(), loader)
        resumed = lightning.Trainer(max_epochs=2, enable_checkpointing=False, **options)
        resumed.fit(Regression(), loader, ckpt_path=f"{folder}/last.ckpt")
        print(loader.explain())
        losses = [float(each.callback_metrics["loss"]) for each in (trainer, resumed)]
    print(
        f"last loss {losses[0]:.6f}, and {losses[1]:.6f} of the run that was resumed in the midst of the second epoch"
    )
    if losses[0] != losses[1]:
        raise SystemExit("they differ")


if __name__ == "__main__":
    main()
