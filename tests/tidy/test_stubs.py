"""The stub of the engine names what the engine has, and nothing else; `make lint` checks signatures with stubtest."""

from __future__ import annotations

import ast
from pathlib import Path

from zenith import _engine

STUB = Path(_engine.__file__).with_name("_engine.pyi")
# What every object has, and how pyo3 writes constructors.
COMMON = set(dir(type("Empty", (), {}))) | {"__new__"}


def in_stub() -> dict[str, set[str]]:
    """The public names of the stub; for classes with their members."""
    names: dict[str, set[str]] = {}
    for node in ast.parse(STUB.read_text()).body:
        if isinstance(node, ast.FunctionDef):
            names[node.name] = set()
        elif isinstance(node, ast.ClassDef):
            names[node.name] = {n.name for n in node.body if isinstance(n, ast.FunctionDef)} - COMMON
    return names


def at_runtime() -> dict[str, set[str]]:
    found = {name: getattr(_engine, name) for name in dir(_engine) if not name.startswith("__")}
    return {name: set(dir(value)) - COMMON if isinstance(value, type) else set() for name, value in found.items()}


def test_the_stub_and_the_engine_agree() -> None:
    assert in_stub() == at_runtime()
    assert "Loader" in in_stub(), "the stub was read"


def test_the_list_of_names_is_whole() -> None:
    assert sorted(_engine.__all__) == sorted(in_stub())
