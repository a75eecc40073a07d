"""Accelerate: ``prepare()`` rebuilds a loader from a list of torch's arguments, around batch samplers of its own.

It makes the new loader itself, so it is torch's unless ``zenith_torch.patch()`` is on: that is the case "patched".
"""

from __future__ import annotations

import contextlib
import itertools
import warnings
from typing import Any

import pytest
import torch
import zenith
import zenith_torch
from ecosystem_processes import Server
from ecosystem_samples import Numbers, ids

ROWS = 103
BATCH = 10
LOADERS = ("torch", "zenith", "patched")
CASES: dict[str, dict[str, Any]] = {
    "default": {},
    "workers": {"num_workers": 2},
    "even_batches=False": {"even_batches": False},
    "split_batches": {"split_batches": True},
    "split, even_batches=False": {"split_batches": True, "even_batches": False},
    "drop_last": {"drop_last": True},
    "dispatch_batches": {"dispatch_batches": True},
    "dispatch_batches, split": {"dispatch_batches": True, "split_batches": True},
    "seedable": {"use_seedable_sampler": True},
}
OF_ACCELERATE = ("even_batches", "split_batches", "dispatch_batches", "use_seedable_sampler")


def prepared(kind: str, data: str, path: str, shuffle: bool, options: dict[str, Any]) -> tuple[Any, Any]:
    """The accelerator and the loader that it makes of ours."""
    import accelerate

    configuration = {name: value for name, value in options.items() if name in OF_ACCELERATE}
    rest = {name: value for name, value in options.items() if name not in OF_ACCELERATE}
    accelerate.utils.set_seed(3)
    accelerator = accelerate.Accelerator(
        cpu=True, dataloader_config=accelerate.DataLoaderConfiguration(**configuration)
    )
    dataset = Numbers(ROWS) if data == "python" else zenith.Parquet(path, columns=["id"])
    loader_class = torch.utils.data.DataLoader if kind == "torch" else zenith_torch.DataLoader
    loader = loader_class(dataset, batch_size=BATCH, shuffle=shuffle, **rest)
    return accelerator, accelerator.prepare(loader)


def walked(kind: str, data: str, path: str, shuffle: bool, options: dict[str, Any]) -> dict[str, Any]:
    """Two epochs, what is gathered in them, and an epoch that begins after its third batch."""
    import accelerate

    with zenith_torch.patch() if kind == "patched" else contextlib.nullcontext():
        accelerator, loader = prepared(kind, data, path, shuffle, options)
        epochs, gathered = [], []
        for _ in range(2):
            seen = []
            for batch in loader:
                seen.append(batch)
                # Processes that have no batch left would not answer.
                if options.get("even_batches", True):
                    gathered.append(accelerator.gather_for_metrics(batch["id"]).tolist())
            epochs.append(ids(seen))
        skipping = accelerate.skip_first_batches(prepared(kind, data, path, shuffle, options)[1], 3)
        return {
            "length": len(loader),
            "epochs": epochs,
            "gathered": [gathered[: len(epochs[0])], gathered[len(epochs[0]) :]],
            "skipped": ids(skipping),
            "explain": loader.explain() if kind == "patched" else "",
            "skipping": skipping.explain() if kind == "patched" else "",
        }


def doubled(batch: Any) -> Any:
    return {"id": batch["id"] * 2}


def with_keywords(path: str) -> list[Any]:
    """Zenith's own keywords on the loader that is made anew."""
    import accelerate

    accelerator = accelerate.Accelerator(cpu=True)
    with zenith_torch.patch():
        dataset = zenith.Parquet(path, columns=["id"])
        assert ids(zenith_torch.DataLoader(dataset, batch_size=ROWS)) == [list(range(ROWS))], "whole unless prepared"
        loader = zenith_torch.DataLoader(dataset, batch_size=BATCH, map_batch=doubled, prefetch_bytes=1 << 20)
        made = accelerator.prepare(loader).base_dataloader
        other = zenith_torch.DataLoader(zenith.Parquet(path), batch_sampler=loader.batch_sampler)
    return [ids(made), made.prefetch_bytes, made is not loader, other.map_batch is None]


def state_taken(data: str, path: str) -> list[Any]:
    """The rest of an epoch after its fourth batch, and what a new loader makes of the state that was taken there."""
    with zenith_torch.patch():
        iterator = iter(loader := prepared("patched", data, path, True, {"num_workers": 2})[1])
        for _ in range(3):
            next(iterator)
        state = loader.state_dict()
        rest = ids(iterator)
        resumed = prepared("patched", data, path, True, {"num_workers": 2})[1]
        resumed.load_state_dict(state)
        return [rest, ids(resumed)]


def everything(path: str) -> dict[str, Any]:
    warnings.simplefilter("ignore")
    found: dict[str, Any] = {"keywords": with_keywords(path)}
    found["states"] = [state_taken(data, path) for data in ("python", "zenith")]
    for data, kind, (case, options), shuffle in itertools.product(
        ("python", "zenith"), LOADERS, CASES.items(), (False, True)
    ):
        found[f"{data} {kind} {case} {shuffle}"] = walked(kind, data, path, shuffle, options)
    return found


@pytest.fixture(scope="module")
def one(server: Server, rows_file: str) -> list[dict[str, Any]]:
    return server.run(everything, path=rows_file)


@pytest.fixture(scope="module")
def two(server: Server, rows_file: str) -> list[dict[str, Any]]:
    return server.run(everything, 2, path=rows_file)


@pytest.fixture(params=["one", "two"])
def processes(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    return request.getfixturevalue(request.param)


def flat(batches: Any) -> list[int]:
    return [number for batch in batches for number in batch]


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_a_python_dataset_is_read_as_with_torchs_loader(processes: list[Any], case: str, shuffle: bool) -> None:
    for found in processes:
        torchs = found[f"python torch {case} {shuffle}"]
        # Accelerate's length of batches that are split unevenly counts one that the last process does not get.
        assert len(torchs["epochs"][0]) == torchs["length"] or case == "split, even_batches=False"
        assert flat(torchs["gathered"][0]) != list(range(ROWS)) or not shuffle
        for kind in ("zenith", "patched"):
            ours = found[f"python {kind} {case} {shuffle}"]
            for part in ("length", "epochs", "gathered", "skipped"):
                assert ours[part] == torchs[part], (kind, part)


@pytest.mark.parametrize("kind", ["zenith", "patched"])
@pytest.mark.parametrize("case", CASES)
def test_a_zenith_dataset_is_shared_out_once(processes: list[Any], case: str, kind: str) -> None:
    """File order gives the samples of torch's loader step by step; natively they are dealt out in another way within one."""
    for shuffle in (False, True):
        torchs = [found[f"zenith torch {case} {shuffle}"] for found in processes]
        ours = [found[f"zenith {kind} {case} {shuffle}"] for found in processes]
        assert [each["length"] for each in ours] == [each["length"] for each in torchs]
        for number in range(2):
            sizes = [[len(batch) for batch in each["epochs"][number]] for each in ours]
            assert sizes == [[len(batch) for batch in each["epochs"][number]] for each in torchs]
            steps = [
                sorted(flat(step)) for step in itertools.zip_longest(*(e["epochs"][number] for e in ours), fillvalue=[])
            ]
            if shuffle:
                assert len(set(flat(steps))) == (ROWS if "drop" not in case else ROWS - ROWS % (BATCH * len(processes)))
            else:
                theirs = itertools.zip_longest(*(e["epochs"][number] for e in torchs), fillvalue=[])
                assert steps == [sorted(flat(step)) for step in theirs]


@pytest.mark.parametrize("kind", ["zenith", "patched"])
@pytest.mark.parametrize("case", [case for case in CASES if "even" not in case and case != "drop_last"])
def test_what_is_gathered_holds_every_sample_once(processes: list[Any], case: str, kind: str) -> None:
    """``gather_for_metrics`` drops what was repeated to fill the last batches."""
    for found in processes:
        for shuffle in (False, True):
            for epoch in found[f"zenith {kind} {case} {shuffle}"]["gathered"]:
                assert sorted(flat(epoch)) == list(range(ROWS))
        assert flat(found[f"zenith torch {case} False"]["gathered"][0]) == list(range(ROWS))


@pytest.mark.parametrize("case", CASES)
def test_skipping_batches(processes: list[Any], case: str) -> None:
    for found in processes:
        for kind in ("zenith", "patched"):
            for shuffle in (False, True):
                ours = found[f"zenith {kind} {case} {shuffle}"]
                if "dispatch" not in case or len(processes) == 1:
                    assert ours["skipped"] == ours["epochs"][0][3:], (kind, shuffle)
            # Dispatched batches are skipped before they are dealt out: Accelerate's own way, with its own end.
            assert found[f"zenith {kind} {case} False"]["skipped"] == found[f"zenith torch {case} False"][
                "skipped"
            ] or (kind == "patched" and len(processes) > 1)
        assert found[f"zenith patched {case} True"]["skipping"].startswith("native")


def test_patched_it_is_native(processes: list[Any]) -> None:
    for rank, found in enumerate(processes):
        for case in CASES:
            for shuffle in (False, True):
                text = found[f"zenith patched {case} {shuffle}"]["explain"]
                assert text.startswith("native"), (case, text)
                place = (rank, len(processes)) if "dispatch" not in case else (0, 1)
                assert "rank {} of {}".format(*place) in text


def test_the_keywords_go_along(processes: list[Any]) -> None:
    for rank, found in enumerate(processes):
        batches, prefetch_bytes, is_new, is_nobody_elses = found["keywords"]
        world = len(processes)
        assert batches[0] == [2 * number for number in range(rank, BATCH * world, world)]
        assert prefetch_bytes == 1 << 20
        assert is_new
        assert is_nobody_elses


def test_a_state_of_the_prepared_loader(processes: list[Any]) -> None:
    for found in processes:
        for rest, resumed in found["states"]:
            assert resumed == rest
            assert len(rest) == len(found["zenith patched default False"]["epochs"][0]) - 3
