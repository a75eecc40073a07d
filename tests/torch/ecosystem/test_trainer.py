"""Hugging Face's Trainer makes its loaders itself, and has Accelerate rebuild them: ``zenith_torch.patch()`` makes them ours."""

from __future__ import annotations

import contextlib
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import zenith
import zenith_torch
from ecosystem_processes import Server

ROWS, TOKENS, BATCH = 60, 6, 8


def columns() -> dict[str, np.ndarray[Any, Any]]:
    """Sequences whose first token is the row's number, and labels."""
    tokens = np.random.default_rng(2).integers(0, ROWS, (ROWS, TOKENS))
    tokens[:, 0] = np.arange(ROWS)
    return {"input_ids": tokens, "labels": np.arange(ROWS) % 2}


def dataset_of(data: str, folder: str) -> Any:
    found = columns()
    if data == "datasets":
        import datasets

        return datasets.Dataset.from_dict({name: values.tolist() for name, values in found.items()})
    names = [f"t{place}" for place in range(TOKENS)]
    rows = {name: found["input_ids"][:, place] for place, name in enumerate(names)} | {"labels": found["labels"]}
    path = Path(folder, "rows.parquet")
    pq.write_table(pa.table(rows), path, row_group_size=16)
    return zenith.Parquet(path, stack={"input_ids": names, "labels": "labels"})


def trained(kind: str, data: str, workers: int = 0, resume: bool = False) -> dict[str, Any]:
    """Two epochs of a tiny network, its evaluation, and by choice what follows its checkpoint in the second epoch."""
    import transformers

    seen: list[list[int]] = []
    losses: list[float] = []

    class Trainer(transformers.Trainer):
        def compute_loss(self, model: Any, inputs: Any, *arguments: Any, **options: Any) -> Any:
            loss = super().compute_loss(model, inputs, *arguments, **options)
            if model.training:
                seen.append(inputs["input_ids"][:, 0].tolist())
                losses.append(loss.item())
            return loss

    def make(folder: str, dataset: Any) -> Trainer:
        transformers.set_seed(5)
        configuration = transformers.BertConfig(
            vocab_size=ROWS,
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            max_position_embeddings=TOKENS,
        )
        arguments = transformers.TrainingArguments(
            folder,
            num_train_epochs=2,
            per_device_train_batch_size=BATCH,
            per_device_eval_batch_size=BATCH,
            dataloader_num_workers=workers,
            dataloader_pin_memory=False,
            remove_unused_columns=data == "datasets",
            save_strategy="steps" if resume else "no",
            save_steps=12,
            logging_strategy="no",
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
            seed=5,
        )
        collation = {} if data == "datasets" else {"data_collator": torch.utils.data.default_collate}
        model = transformers.BertForSequenceClassification(configuration)
        return Trainer(model, arguments, train_dataset=dataset, eval_dataset=dataset, **collation)

    with (
        tempfile.TemporaryDirectory() as folder,
        zenith_torch.patch() if kind == "patched" else contextlib.nullcontext(),
    ):
        dataset = dataset_of(data, folder)
        trainer = make(folder, dataset)
        trainer.train()
        loaders = [trainer.get_train_dataloader(), trainer.get_eval_dataloader()]
        predictions = trainer.predict(dataset)
        found: dict[str, Any] = {
            "seen": list(seen),
            "losses": list(losses),
            "evaluated": trainer.evaluate()["eval_loss"],
            "predicted": predictions.label_ids.tolist(),
            "types": [type(loader.base_dataloader).__module__ for loader in loaders],
            "explain": [loader.explain() if kind == "patched" else "" for loader in loaders],
        }
        if resume:
            checkpoint = Path(folder, "checkpoint-12")
            seen.clear()
            losses.clear()
            make(folder, dataset).train(resume_from_checkpoint=str(checkpoint))
            found["resumed"] = [list(seen), list(losses)]
        return found


def with_its_own_collator() -> str:
    """What the loader says where the Trainer is given nothing but a Zenith dataset."""
    import transformers

    with tempfile.TemporaryDirectory() as folder, zenith_torch.patch():
        arguments = transformers.TrainingArguments(folder, report_to=[], use_cpu=True, dataloader_pin_memory=False)
        trainer = transformers.Trainer(torch.nn.Linear(1, 1), arguments, train_dataset=dataset_of("zenith", folder))
        return trainer.get_train_dataloader().explain()


def alone() -> dict[str, Any]:
    warnings.simplefilter("ignore")
    found: dict[str, Any] = {"own collator": with_its_own_collator()}
    for kind in ("torch", "patched"):
        found[f"{kind} datasets"] = trained(kind, "datasets", resume=True)
        found[f"{kind} datasets workers"] = trained(kind, "datasets", workers=2)
        found[f"{kind} zenith"] = trained(kind, "zenith", resume=True)
    found["patched zenith workers"] = trained("patched", "zenith", workers=2)
    return found


def pair() -> dict[str, Any]:
    warnings.simplefilter("ignore")
    return {f"{kind} {data}": trained(kind, data) for kind in ("torch", "patched") for data in ("datasets", "zenith")}


@pytest.fixture(scope="module")
def one(server: Server) -> dict[str, Any]:
    return server.run(alone)[0]


@pytest.fixture(scope="module")
def two(server: Server) -> list[dict[str, Any]]:
    return server.run(pair, 2)


def flat(batches: Any) -> list[int]:
    return [number for batch in batches for number in batch]


@pytest.mark.parametrize("place", ["", " workers"])
def test_a_table_of_datasets_trains_as_with_torchs_loader(one: dict[str, Any], place: str) -> None:
    torchs, ours = one[f"torch datasets{place}"], one[f"patched datasets{place}"]
    assert torchs["types"] == ["torch.utils.data.dataloader"] * 2
    assert ours["types"] == ["zenith_torch.loader"] * 2
    assert len(torchs["seen"]) == 16
    assert torchs["seen"][:8] != torchs["seen"][8:]
    for part in ("seen", "losses", "evaluated", "predicted", "resumed"):
        assert ours.get(part) == torchs.get(part), part


def test_a_checkpoint_in_mid_epoch_goes_on_where_it_was(one: dict[str, Any]) -> None:
    for name in ("torch datasets", "patched datasets", "torch zenith", "patched zenith"):
        seen, losses = one[name]["resumed"]
        assert seen == one[name]["seen"][12:], name
        assert losses == one[name]["losses"][12:], name
        assert len(seen) == 4


@pytest.mark.parametrize("place", ["", " workers"])
def test_a_zenith_dataset_is_read_natively(one: dict[str, Any], place: str) -> None:
    ours = one[f"patched zenith{place}"]
    assert all(text.startswith("native") for text in ours["explain"]), ours["explain"]
    first, second = flat(ours["seen"][:8]), flat(ours["seen"][8:])
    assert sorted(first) == sorted(second) == list(range(ROWS))
    assert first != second
    assert ours["predicted"] == one["torch zenith"]["predicted"] == columns()["labels"].tolist()
    assert ours["seen"] == one["patched zenith"]["seen"]


def test_its_own_collator_is_called(one: dict[str, Any]) -> None:
    assert "collate_fn= was given" in one["own collator"]


def test_two_processes_share_an_epoch(two: list[dict[str, Any]]) -> None:
    for part in ("seen", "losses", "evaluated", "predicted"):
        assert [found["patched datasets"][part] for found in two] == [found["torch datasets"][part] for found in two]
    for name in ("torch datasets", "torch zenith", "patched zenith"):
        shares = [found[name]["seen"] for found in two]
        for epoch in (slice(4), slice(4, 8)):
            assert set(flat(shares[0][epoch]) + flat(shares[1][epoch])) == set(range(ROWS))
            assert [len(share[epoch]) for share in shares] == [4, 4]
        assert all(sorted(found[name]["predicted"]) == sorted(columns()["labels"].tolist()) for found in two)
    for rank, found in enumerate(two):
        assert all(text.startswith("native") for text in found["patched zenith"]["explain"])
        assert all(f"rank {rank} of 2" in text for text in found["patched zenith"]["explain"])
