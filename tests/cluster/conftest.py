"""The launcher's program, built once."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def zenith_run() -> str:
    """Where `zenith-run` lies, built unoptimised."""
    command = ["cargo", "build", "--locked", "--quiet", "-p", "zenith-cluster", "--bin", "zenith-run"]
    told = subprocess.run([*command, "--message-format=json"], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    built = [message for line in told.stdout.splitlines() if (message := json.loads(line)).get("executable")]
    assert len(built) == 1, "cargo names the program that it built"
    return str(built[0]["executable"])
