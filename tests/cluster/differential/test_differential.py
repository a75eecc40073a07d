"""zenith-run does what torchrun did with the same command line, but for the listed differences."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from . import legacy
from .cases import CASES, Case
from .differences import DIFFERENCES, UNSAID
from .observe import Observation, observe

RECORDED = json.loads(Path(__file__).with_name("torchrun.json").read_text())


def fields(seen: Observation) -> dict[str, Any]:
    """What is compared, by name; variables of the workers one by one, over all of them."""
    found: dict[str, Any] = {}
    for key, value in seen.items():
        if key.startswith("environment "):
            for name, text in value.items():
                found.setdefault(f"environment {name}", {})[key.split()[1]] = text
        elif key == "block":
            # As long as the longest line, and so as the digits of a process id; a test of the report holds the rule.
            found[key] = [re.sub(r"^([=-])\1+$", r"\1", line) for line in value]
        else:
            found[key] = value
    return found


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_zenith_run_is_as_torchrun(case: Case, zenith_run: str) -> None:
    ours, theirs = fields(observe([zenith_run], case)), fields(RECORDED[case.id])
    differing = {name for name in ours | theirs if ours.get(name) != theirs.get(name)}
    intended = {entry.field: entry for entry in DIFFERENCES if case.id in entry.cases}
    unexpected = {name: {"ours": ours.get(name), "theirs": theirs.get(name)} for name in differing - intended.keys()}
    assert not unexpected
    assert intended.keys() <= differing, f"no difference in {intended.keys() - differing}: remove the entries"
    for name, entry in intended.items():
        assert entry.ours is UNSAID or ours.get(name) == entry.ours


@pytest.mark.parametrize("case", legacy.CASES, ids=lambda case: case.id)
def test_the_legacy_launcher_is_as_torchs(case: Case, zenith_run: str) -> None:
    theirs = json.loads(legacy.RECORDED.read_text())[case.id]
    ours, theirs = fields(observe([zenith_run, "--legacy-launch"], case)), fields(theirs)
    # JAX's meeting place, which is told by all modes and listed in `differences`.
    starts_ranks = "environment RANK" in theirs
    assert (ours.pop("environment JAX_COORDINATOR_ADDRESS", None) is not None) == starts_ranks
    assert ours == theirs


def test_every_case_is_recorded_and_every_difference_has_its_cases() -> None:
    known = [case.id for case in CASES]
    assert sorted(RECORDED) == sorted(known), "run `make differential`"
    assert len(set(known)) == len(known) >= 60
    listed = [(name, entry.field) for entry in DIFFERENCES for name in entry.cases]
    assert len(set(listed)) == len(listed)
    assert {name for name, _ in listed} <= set(known)
    assert all(entry.cases for entry in DIFFERENCES)
