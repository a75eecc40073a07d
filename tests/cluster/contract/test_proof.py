"""Every statement of torchrun's contract is held by a test that exists: `contract.toml` says by which."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import tomllib

ROOT = Path(__file__).parents[3]
CONTRACT: dict[str, dict[str, Any]] = tomllib.loads(Path(__file__).with_name("contract.toml").read_text())
FILES: dict[str, str] = CONTRACT.pop("files")
# How many statements of each kind there are.
COUNTS = {"T": 61, "TW": 15, "TB": 9, "TS": 12, "TN": 7, "TE": 3, "TY": 5}
STATEMENTS = [f"{kind}-{number}" for kind, count in COUNTS.items() for number in range(1, count + 1)]
# What is not there yet. An entry that has tests is not open: the test says so.
OPEN: dict[str, str] = {}


@cache
def text(path: str) -> str:
    return (ROOT / path).read_text()


def is_there(reference: str) -> bool:
    """`path::test`, and behind it in brackets what tells one case of several: all of it must stand in the file."""
    short = re.match(r"\w+(?=[:/\[])", reference)
    if short and short[0] in FILES:
        reference = FILES[short[0]] + reference[short.end() :]
    path, _, name = reference.partition("::")
    name, _, case = name.rstrip("]").partition("[")
    if not (ROOT / path).is_file():
        return False
    if path.endswith(".rs"):
        # The attribute may have company.
        return bool(re.search(rf"#\[test\]\n(?:\s*(?:#\[.*\]|//.*)\n)*\s*fn {re.escape(name)}\(", text(path)))
    cases = [text(path), text("tests/cluster/differential/cases.py"), text("tests/cluster/differential/legacy.py")]
    is_test = name.startswith("test_") and re.search(rf"^def {re.escape(name)}\(", text(path), re.M)
    return bool(is_test) and (not case or any(f'"{case}"' in one or re.search(rf"\b{case}\b,", one) for one in cases))


def test_every_statement_is_listed() -> None:
    assert list(CONTRACT) == STATEMENTS
    assert all(set(entry) <= {"says", "instead", "tests"} and entry["says"] for entry in CONTRACT.values())


@pytest.mark.parametrize("statement", STATEMENTS)
def test_a_statement_is_held_by_tests_that_exist(statement: str) -> None:
    tests = CONTRACT[statement].get("tests", [])
    if statement in OPEN:
        assert not tests, f"{statement} has tests: it is not open any more"
        return
    assert tests, f"{statement} has no test: {CONTRACT[statement]['says']}"
    missing = [reference for reference in tests if not is_there(reference)]
    assert not missing


def test_references_to_what_is_not_there_are_found() -> None:
    """The test above can fail."""
    here = "tests/cluster/contract/test_proof.py"
    block = "rust/zenith-cluster/src/report/block.rs"
    assert is_there(f"{here}::test_every_statement_is_listed")
    assert is_there(f"{block}::rules_are_as_wide_as_the_longest_line_up_to_sixty")
    assert is_there("tests/cluster/differential/test_differential.py::test_zenith_run_is_as_torchrun[fail-code]")
    for reference in (
        f"{here}::test_nothing",
        "tests/nowhere.py::test_nothing",
        f"{here}::is_there",
        f"{block}::described",
        "tests/cluster/differential/test_differential.py::test_zenith_run_is_as_torchrun[no-such-case]",
    ):
        assert not is_there(reference), reference
