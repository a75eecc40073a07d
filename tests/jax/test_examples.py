"""The examples run, and what they say of themselves is true."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("name", "said"), [("jax_scan", "the same losses, bit for bit"), ("jax_train", "are the same, bit for bit")]
)
def test_the_example_runs(name: str, said: str) -> None:
    flags = "--xla_force_host_platform_device_count=8" if name == "jax_train" else ""
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": f"{ROOT}/python:{ROOT}"}
    command = [sys.executable, "-m", f"examples.{name}"]
    found = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert found.returncode == 0, found.stderr
    assert said in found.stdout
