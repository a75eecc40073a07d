"""What torch makes of the machines that `rust/zenith-cluster/src/placement/topologies` tells of, and of `CUDA_VISIBLE_DEVICES`.

It is recorded in `torch.json` and `visible.json`, to which the tests of the crate compare `--numa-binding`. This file holds the
records against torch; `python tests/cluster/test_numa_binding.py` writes them anew.
"""

from __future__ import annotations

import io
import json
import os
import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import torch
from torch.numa import binding

TOPOLOGIES = Path(__file__).parents[2] / "rust/zenith-cluster/src/placement/topologies"
RECORD = TOPOLOGIES / "torch.json"
VISIBLE = TOPOLOGIES / "visible.json"
UUIDS = ["GPU-0a1", "GPU-0b2", "GPU-1c3", "GPU-1c4"]
NAMES = sorted(path.stem for path in TOPOLOGIES.glob("*.txt"))


def expanded(path: str) -> Iterator[str]:
    """A list in braces stands for each of its numbers."""
    found = re.search(r"\{(.*?)\}", path)
    if not found:
        yield path
        return
    for part in found[1].split(","):
        first, _, last = part.partition("-")
        for number in range(int(first), int(last or first) + 1):
            yield from expanded(path[: found.start()] + str(number) + path[found.end() :])


def files_of(name: str) -> dict[str, str]:
    files: dict[str, str] = {}
    for line in (TOPOLOGIES / f"{name}.txt").read_text().splitlines():
        if not line.startswith("#"):
            path, _, content = line.partition(" = ")
            for one in expanded("/" + path):
                files[one] = files.get(one, "") + content + "\n"
    return files


@contextmanager
def machine(files: dict[str, str]) -> Iterator[int]:
    """Shows torch these files, the CPUs that they allow, and their GPUs; gives the number of GPUs."""
    gpus = sorted(path.split("/")[5] for path in files if path.endswith("/numa_node"))
    status = files["/proc/self/status"]
    allowed = binding._get_set_of_int_from_ranges_str(re.search(r"Cpus_allowed_list:\t(.*)", status)[1])

    def opened(path: str) -> io.StringIO:
        if path not in files:
            raise FileNotFoundError(path)
        return io.StringIO(files[path])

    def listed(folder: str) -> list[str]:
        return sorted({path[len(folder) + 1 :].split("/")[0] for path in files if path.startswith(folder + "/")})

    def properties(index: int) -> Any:
        domain, bus, device = (int(part, 16) for part in gpus[index].split(".")[0].split(":"))
        return SimpleNamespace(pci_domain_id=domain, pci_bus_id=bus, pci_device_id=device)

    with (
        mock.patch.object(binding, "open", opened, create=True),
        mock.patch.object(os, "listdir", listed),
        mock.patch.object(os, "sched_getaffinity", return_value=allowed),
        mock.patch.object(binding.shutil, "which", lambda name: f"/usr/bin/{name}"),
        mock.patch.object(torch.cuda, "device_count", return_value=len(gpus)),
        mock.patch.object(torch.cuda, "get_device_properties", properties),
    ):
        yield len(gpus)


def torchs(name: str) -> dict[str, list[dict[str, str]]]:
    """By mode and GPU: the CPUs, or the error."""
    modes: dict[str, list[dict[str, str]]] = {}
    with machine(files_of(name)) as gpus:
        for mode in binding.AffinityMode:
            modes[mode.value] = results = []
            for gpu in range(gpus):
                try:
                    options = binding.NumaOptions(affinity_mode=mode)
                    cpus = binding._get_validated_logical_cpus_to_bind_to(gpu_index=gpu, numa_options=options)
                    results.append({"Ok": binding._get_ranges_str_from_ints(cpus)})
                except (RuntimeError, ValueError, OSError, ZeroDivisionError) as error:
                    results.append({"Err": f"{type(error).__name__}: {error}"})
    return modes


def lists() -> list[str]:
    """Of what may stand in `CUDA_VISIBLE_DEVICES`; seeded, so the same every time."""
    draw = random.Random(5)
    items = [
        "0",
        "1",
        "2",
        "3",
        "4",
        "-1",
        "",
        "x",
        " 1",
        "2 ",
        "+3",
        "1a",
        "02",
        "GPU-0",
        "GPU-0a",
        "GPU-0b2",
        "GPU-1c",
    ]
    items += ["GPU-1c3", "GPU-1c4", " GPU-1c4", "GPU-1c3x", "gpu-0a", "GPU-"]
    return sorted({",".join(draw.choices(items, k=draw.choice([1, 2, 2, 3, 4]))) for _ in range(400)})


def visible(text: str) -> list[int]:
    """The places of the GPUs that torch takes."""
    with mock.patch.dict(os.environ, CUDA_VISIBLE_DEVICES=text):
        found = torch.cuda._parse_visible_devices()
    if found and isinstance(found[0], str):
        return torch.cuda._transform_uuid_to_ordinals(found, UUIDS)
    # As its count of devices does.
    outside = next((place for place, number in enumerate(found) if number >= len(UUIDS)), len(found))
    return found[:outside]


def visible_record() -> dict[str, Any]:
    return {"uuids": UUIDS, "lists": {text: visible(text) for text in lists()}}


def test_the_record_of_visible_devices_is_what_torch_says() -> None:
    assert json.loads(VISIBLE.read_text()) == visible_record()


@pytest.mark.parametrize("name", NAMES)
def test_the_record_is_what_torch_says(name: str) -> None:
    assert json.loads(RECORD.read_text())[name] == torchs(name)


if __name__ == "__main__":
    RECORD.write_text(json.dumps({name: torchs(name) for name in NAMES}, indent=1) + "\n")
    rows = json.dumps(visible_record()).replace("], ", "],\n")
    VISIBLE.write_text(rows + "\n")
