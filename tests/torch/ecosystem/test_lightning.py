"""Lightning: the Trainer rebuilds a loader from its attributes, injects samplers, and keeps its state in checkpoints."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import zenith
import zenith_torch
from ecosystem_processes import Server
from ecosystem_samples import Numbers

ROWS = 103
BATCH = 10


def loader_of(kind: str, data: str, path: str, workers: int, **options: Any) -> Any:
    dataset = (
        Numbers(ROWS) if data == "python" else zenith.Parquet(path, stack={"id": "id", "x": ["f0", "f1", "f2", "f3"]})
    )
    loader_class = torch.utils.data.DataLoader if kind == "torch" else zenith_torch.DataLoader
    return loader_class(dataset, batch_size=BATCH, num_workers=workers, **options)


def trainer(devices: int = 1, **options: Any) -> Any:
    import lightning

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    quiet = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary"), False)
    options = {"enable_checkpointing": False, "num_sanity_val_steps": 0, **quiet, **options}
    strategy = "ddp" if devices > 1 else "auto"
    return lightning.Trainer(accelerator="cpu", devices=devices, strategy=strategy, **options)


def model(train_loader: Any = None) -> Any:
    """A module that notes what it is given, epoch by epoch."""
    import lightning

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(4, 1)
            self.trained: list[list[list[int]]] = []
            self.validated: list[list[int]] = []

        def on_train_epoch_start(self) -> None:
            self.trained.append([])

        def training_step(self, batch: Any, number: int) -> torch.Tensor:
            if not self.trained:  # Resumed in the midst of an epoch.
                self.trained.append([])
            self.trained[-1].append(batch["id"].tolist())
            return self.layer(batch["x"]).square().mean()

        def validation_step(self, batch: Any, number: int) -> None:
            self.validated.append(batch["id"].tolist())

        def predict_step(self, batch: Any, number: int) -> list[int]:
            return batch["id"].tolist()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), 1e-9)

    module = Module()
    if train_loader is not None:
        module.train_dataloader = train_loader
    return module


def fitted(kind: str, data: str, path: str, workers: int, devices: int, in_hook: bool) -> dict[str, Any]:
    """Two epochs with validation; what each process saw, and what became of the loaders."""
    torch.manual_seed(5)
    run_of, validation = trainer(devices, max_epochs=2), loader_of(kind, data, path, workers)
    # Programs ask for the length before the Trainer starts, for a learning rate schedule say.
    options = {"shuffle": True, "drop_last": True}

    def make() -> Any:
        loader = loader_of(kind, data, path, workers, **options)
        assert len(loader) >= ROWS // BATCH // devices
        return loader

    if in_hook:
        module, train = model(make), None
    else:
        module, train = model(), make()
    run_of.fit(module, train, validation)
    used = run_of.train_dataloader
    return {
        "trained": module.trained,
        "validated": module.validated,
        "type": f"{type(used).__module__}.{type(used).__qualname__}",
        "sampler": type(used.sampler).__name__,
        "explain": [loader.explain() if kind == "zenith" else "" for loader in (used, run_of.val_dataloaders)],
    }


def predicted(kind: str, data: str, path: str, devices: int) -> list[Any]:
    """Predictions with the indices that Lightning's writers are told."""
    from lightning.pytorch.callbacks import BasePredictionWriter

    found: list[Any] = []

    class Writer(BasePredictionWriter):
        def write_on_batch_end(
            self, trainer: Any, module: Any, prediction: Any, indices: Any, *_: Any, **__: Any
        ) -> None:
            found.append([list(map(int, indices)), prediction])

    run_of = trainer(devices, callbacks=[Writer("batch")])
    run_of.predict(model(), loader_of(kind, data, path, 0))
    explained = run_of.predict_dataloaders.explain() if kind == "zenith" else ""
    return [found, explained]


def resumed(kind: str, data: str, path: str, folder: str, workers: int) -> dict[str, Any]:
    """An unbroken run of two epochs, and one that goes on from a checkpoint in the midst of the second."""
    from lightning.pytorch.callbacks import ModelCheckpoint

    result = {}
    last = Path(folder, kind, data, "last.ckpt")
    for name, options, checkpoint in (("unbroken", {}, None), ("resumed", {}, str(last))):
        torch.manual_seed(5)
        keep = (
            ModelCheckpoint(last.parent, "last", every_n_train_steps=14, save_top_k=1) if checkpoint is None else None
        )
        callbacks = [] if keep is None else [keep]
        run_of = trainer(max_epochs=2, callbacks=callbacks, enable_checkpointing=keep is not None, **options)
        module = model()
        run_of.fit(module, loader_of(kind, data, path, workers, shuffle=True), ckpt_path=checkpoint, weights_only=False)
        result[name] = module.trained
    return result


def overfitted(path: str) -> list[Any]:
    """``overfit_batches`` puts a ``SequentialSampler`` in, also under a loader that was asked for its length already."""
    module = model(lambda: (loader := loader_of("zenith", "zenith", path, 0, shuffle=True), len(loader))[0])
    run_of = trainer(max_epochs=1, overfit_batches=2)
    run_of.fit(module)
    return [module.trained, run_of.train_dataloader.explain()]


def seeded(path: str) -> str:
    """``seed_everything(workers=True)`` makes the Trainer set a ``worker_init_fn``."""
    import lightning

    lightning.seed_everything(3, workers=True, verbose=False)
    run_of = trainer(max_epochs=1)
    run_of.fit(model(), loader_of("zenith", "zenith", path, 0))
    assert run_of.train_dataloader.worker_init_fn is not None
    return run_of.train_dataloader.explain()


def of_fabric(kind: str, data: str, path: str) -> list[Any]:
    """Two epochs in a loop of one's own, with a loader that Fabric has set up."""
    import lightning

    torch.manual_seed(5)
    fabric = lightning.Fabric(accelerator="cpu", devices=2, strategy="ddp")
    fabric.launch()
    loader = fabric.setup_dataloaders(loader_of(kind, data, path, 0, shuffle=True))
    epochs = [[batch["id"].tolist() for batch in loader] for _ in range(2)]
    return [epochs, loader._dataloader.explain() if kind == "zenith" else ""]


def alone(path: str, folder: str) -> dict[str, Any]:
    warnings.simplefilter("ignore")
    result: dict[str, Any] = {"overfitted": overfitted(path), "seeded": seeded(path)}
    for data in ("python", "zenith"):
        for kind in ("torch", "zenith"):
            name = f"{kind} {data}"
            result[f"fit {name}"] = [fitted(kind, data, path, workers, 1, workers == 2) for workers in (0, 2)]
            result[f"predict {name}"] = predicted(kind, data, path, 1)
        result[f"resume {data}"] = resumed("zenith", data, path, folder, 2)
    return result


def pair(path: str) -> dict[str, Any]:
    warnings.simplefilter("ignore")
    result: dict[str, Any] = {}
    for data in ("python", "zenith"):
        for kind in ("torch", "zenith"):
            name = f"{kind} {data}"
            result[f"fit {name}"] = [fitted(kind, data, path, workers, 2, workers == 2) for workers in (0, 2)]
            result[f"predict {name}"] = predicted(kind, data, path, 2)
            result[f"fabric {name}"] = of_fabric(kind, data, path)
    return result


@pytest.fixture(scope="module")
def one(server: Server, rows_file: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return server.run(alone, path=rows_file, folder=str(tmp_path_factory.mktemp("checkpoints")))[0]


@pytest.fixture(scope="module")
def two(server: Server, rows_file: str) -> list[dict[str, Any]]:
    return server.run(pair, 2, path=rows_file)


def flat(batches: Any) -> list[int]:
    return [number for batch in batches for number in batch]


@pytest.mark.parametrize("place", [0, 1], ids=["main", "workers and hook"])
def test_a_python_dataset_trains_as_with_torchs_loader(one: dict[str, Any], place: int) -> None:
    torchs, ours = one["fit torch python"][place], one["fit zenith python"][place]
    assert torchs["type"] == "torch.utils.data.dataloader.DataLoader"
    assert ours["type"] == "zenith_torch.loader.DataLoader"
    assert [len(epoch) for epoch in torchs["trained"]] == [10, 10]
    assert ours["trained"] == torchs["trained"]
    assert ours["validated"] == torchs["validated"]


@pytest.mark.parametrize("place", [0, 1], ids=["main", "workers and hook"])
def test_a_zenith_dataset_is_read_natively(one: dict[str, Any], place: int) -> None:
    torchs, ours = one["fit torch zenith"][place], one["fit zenith zenith"][place]
    assert all(text.startswith("native") for text in ours["explain"])
    assert ours["validated"] == torchs["validated"]
    first, second = map(flat, ours["trained"])
    assert len(set(first)) == len(set(second)) == len(first) == 100
    assert first != second, "the Trainer sets the epoch"


@pytest.mark.parametrize("place", [0, 1], ids=["main", "workers and hook"])
def test_the_trainer_injects_its_distributed_sampler(two: list[dict[str, Any]], place: int) -> None:
    for found in two:
        torchs, ours = found["fit torch python"][place], found["fit zenith python"][place]
        assert ours["type"] == "zenith_torch.loader.DataLoader"
        assert ours["sampler"] == torchs["sampler"] == "DistributedSampler"
        assert len(torchs["trained"]) == 2
        assert ours["trained"] == torchs["trained"]
        assert ours["validated"] == torchs["validated"]
    shares = [set(flat(found["fit zenith python"][place]["trained"][0])) for found in two]
    assert not shares[0] & shares[1]


@pytest.mark.parametrize("place", [0, 1], ids=["main", "workers and hook"])
def test_a_zenith_dataset_is_shared_out_by_its_plan(two: list[dict[str, Any]], place: int) -> None:
    found = [each["fit zenith zenith"][place] for each in two]
    for rank, ours in enumerate(found):
        assert ours["sampler"] == "PlanSampler"
        assert all(text.startswith("native") and f"rank {rank} of 2" in text for text in ours["explain"])
        assert ours["trained"][0] != ours["trained"][1]
    for epoch in range(2):
        shares = [flat(ours["trained"][epoch]) for ours in found]
        assert len(shares[0]) == len(shares[1]) == 50
        assert len(set(shares[0] + shares[1])) == 100
    # File order is dealt out one by one, as DistributedSampler deals it.
    assert [ours["validated"] for ours in found] == [each["fit torch zenith"][place]["validated"] for each in two]


def test_predictions_and_their_indices(one: dict[str, Any], two: list[dict[str, Any]]) -> None:
    for data in ("python", "zenith"):
        torchs, ours = one[f"predict torch {data}"][0], one[f"predict zenith {data}"][0]
        assert ours == torchs
        assert [indices for indices, _ in ours] == [prediction for _, prediction in ours]
        # The last batch is shorter at one rank: nothing is predicted twice.
        shares = [found[f"predict zenith {data}"][0] for found in two]
        assert shares == [found[f"predict torch {data}"][0] for found in two]
        assert sorted(flat(indices for share in shares for indices, _ in share)) == list(range(ROWS))
    assert all(found["predict zenith zenith"][1].startswith("native") for found in (one, *two))


def test_fabric_sets_loaders_up(two: list[dict[str, Any]]) -> None:
    for found in two:
        assert found["fabric zenith python"][0] == found["fabric torch python"][0]
        assert found["fabric zenith zenith"][1].startswith("native")
    for epoch in range(2):
        shares = [found["fabric zenith zenith"][0][epoch] for found in two]
        assert set(flat(shares[0] + shares[1])) == set(range(ROWS))
    assert two[0]["fabric zenith zenith"][0][0] != two[0]["fabric zenith zenith"][0][1]


@pytest.mark.parametrize("data", ["python", "zenith"])
def test_a_checkpoint_in_mid_epoch_resumes_exactly(one: dict[str, Any], data: str) -> None:
    unbroken, resumed = one[f"resume {data}"]["unbroken"], one[f"resume {data}"]["resumed"]
    assert [len(epoch) for epoch in unbroken] == [11, 11]
    assert sorted(flat(unbroken[1])) == list(range(ROWS))
    assert resumed == [unbroken[1][3:]]


def test_batches_that_are_overfitted_are_in_file_order(one: dict[str, Any]) -> None:
    trained, explained = one["overfitted"]
    assert flat(trained[0]) == list(range(20))
    assert explained.startswith("native: a SequentialSampler")


def test_the_seeds_that_lightning_gives_to_workers_do_not_stand_in_the_way(one: dict[str, Any]) -> None:
    assert one["seeded"].startswith("native")
