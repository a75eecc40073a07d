"""What `zenith_jax.initialize` asks of JAX, by what it is told and by what the environment says."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import jax
import pytest
import zenith_jax

SECONDS = 180
NAMES = ("JAX_COORDINATOR_ADDRESS", "JAX_COORDINATOR_BIND_ADDRESS", "JAX_LOCAL_DEVICE_IDS", "CUDA_VISIBLE_DEVICES")
NAMES += ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
# Two ranks on each of two nodes; this is the last one.
LAUNCHED = {
    "JAX_COORDINATOR_ADDRESS": "10.0.0.1:4321",
    "RANK": "3",
    "WORLD_SIZE": "4",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
}
PLACE = {
    "coordinator_address": "10.0.0.1:4321",
    "num_processes": 4,
    "process_id": 3,
    "cluster_detection_method": "deactivate",
}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The calls that reach JAX, in an environment that says nothing."""
    calls: list[dict[str, Any]] = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda **arguments: calls.append(arguments))
    monkeypatch.setattr(jax.distributed, "is_initialized", lambda: bool(calls))
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    return calls


@pytest.mark.parametrize(
    ("variables", "added"),
    [
        ({}, {"local_device_ids": [1]}),
        ({"CUDA_VISIBLE_DEVICES": "4,5"}, {"local_device_ids": [1]}),
        ({"CUDA_VISIBLE_DEVICES": "5"}, {}),
        ({"JAX_LOCAL_DEVICE_IDS": "0,1"}, {}),
        ({"LOCAL_WORLD_SIZE": "1"}, {}),
        (
            {"JAX_COORDINATOR_ADDRESS": "127.0.0.1:7", "LOCAL_WORLD_SIZE": "1"},
            {"coordinator_address": "127.0.0.1:7", "coordinator_bind_address": "127.0.0.1:7"},
        ),
        (
            {"JAX_COORDINATOR_ADDRESS": "[::1]:7", "JAX_COORDINATOR_BIND_ADDRESS": "[::]:7", "LOCAL_WORLD_SIZE": "1"},
            {"coordinator_address": "[::1]:7"},
        ),
    ],
)
def test_the_launchers_variables_say_it_all(
    asked: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], added: dict[str, Any]
) -> None:
    for name, value in (LAUNCHED | variables).items():
        monkeypatch.setenv(name, value)
    zenith_jax.initialize()
    assert asked == [PLACE | added]


def test_arguments_win(asked: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (LAUNCHED | {"JAX_COORDINATOR_ADDRESS": "127.0.0.1:7"}).items():
        monkeypatch.setenv(name, value)
    # The address that is listened at follows the one that was given.
    zenith_jax.initialize("10.0.0.9:1", local_device_ids=5, initialization_timeout=9)
    expected = PLACE | {"coordinator_address": "10.0.0.9:1", "local_device_ids": [5], "initialization_timeout": 9}
    assert asked == [expected]


def test_without_a_launcher_jax_looks_for_a_cluster_itself(asked: list[dict[str, Any]]) -> None:
    zenith_jax.initialize(heartbeat_timeout_seconds=20)
    assert asked == [{"heartbeat_timeout_seconds": 20}]


def test_a_second_call_does_nothing_unless_it_wants_another_place(
    asked: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in LAUNCHED.items():
        monkeypatch.setenv(name, value)
    zenith_jax.initialize()
    zenith_jax.initialize()
    zenith_jax.initialize(process_id=3, local_device_ids=1)
    assert len(asked) == 1
    with pytest.raises(RuntimeError, match=r"num_processes=4 already, num_processes=2 is too late; .*shutdown"):
        zenith_jax.initialize(num_processes=2)


def test_a_number_that_is_none_is_named(asked: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (LAUNCHED | {"RANK": "first"}).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match="RANK='first' is not a number"):
        zenith_jax.initialize()
    assert asked == []


def python(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in NAMES} | variables
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, env=environment | {"JAX_PLATFORMS": "cpu"}, capture_output=True, text=True, timeout=SECONDS
    )


def test_what_is_missing_is_named() -> None:
    """With JAX itself, which finds no cluster."""
    alone = python("import zenith_jax; zenith_jax.initialize()")
    assert "ValueError: JAX finds no cluster that says coordinator_address or num_processes or" in alone.stderr
    assert "JAX_COORDINATOR_ADDRESS, WORLD_SIZE, RANK not set. Start the program by zenith-run" in alone.stderr
    by_torchrun = python("import zenith_jax; zenith_jax.initialize()", RANK="0", WORLD_SIZE="2")
    assert "JAX_COORDINATOR_ADDRESS not set (but WORLD_SIZE=2, RANK=0). Start" in by_torchrun.stderr


def test_importing_touches_no_backend() -> None:
    code = "import sys, zenith_jax; assert 'jax' not in sys.modules; assert 'initialize' in dir(zenith_jax); "
    code += "zenith_jax.initialize; from jax._src import xla_bridge; assert not xla_bridge.backends_are_initialized()"
    done = python(code)
    assert done.returncode == 0, done.stderr
    unknown = python("import zenith_jax; zenith_jax.unknown")
    assert "AttributeError: module 'zenith_jax' has no attribute 'unknown'" in unknown.stderr
