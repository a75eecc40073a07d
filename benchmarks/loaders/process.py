"""Starts the fresh process of one job, and samples its memory if asked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.loaders.tree_memory import TreeMemory

ROOT = Path(__file__).resolve().parents[2]


class ChildError(Exception):
    """The process ended without a result; the text is the end of what it wrote to stderr."""


def run_child(job: dict[str, Any], sample_memory: bool = False) -> dict[str, Any]:
    """Runs `job` in a fresh interpreter and returns its result; with `peak_mib` beyond the imports if memory is sampled.

    Timed runs are not sampled: reading the sizes of a large process takes part of a core.
    """
    environment = {**os.environ, "PYTHONPATH": python_path(), "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    with tempfile.TemporaryFile() as errors:
        child = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.loaders.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=ROOT,
            env=environment,
            text=True,
        )
        try:
            return talk(child, job, sample_memory)
        except (BrokenPipeError, EOFError):
            child.wait()
            errors.seek(0)
            lines = errors.read().decode(errors="replace").strip().splitlines()
            said = " / ".join(lines[-3:]) if lines else "nothing on stderr"
            raise ChildError(f"exit status {child.returncode}: {said}") from None
        finally:
            if child.poll() is None:
                child.kill()
            child.wait()
            for pipe in (child.stdin, child.stdout):
                if pipe is not None:
                    pipe.close()


def python_path() -> str:
    """The repository first, then what the caller set."""
    return os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))


def talk(child: subprocess.Popen[str], job: dict[str, Any], sample_memory: bool) -> dict[str, Any]:
    """The conversation of `child.main`. Raises EOFError when the child ends early."""
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(json.dumps(job) + "\n")
    child.stdin.flush()
    wait_for(child, "@imported")
    memory = TreeMemory(child.pid) if sample_memory else None
    if memory is not None:
        memory.__enter__()
    try:
        child.stdin.write("go\n")
        child.stdin.flush()
        result: dict[str, Any] = json.loads(wait_for(child, "@result "))
    finally:
        if memory is not None:
            memory.__exit__()
    child.wait()
    if memory is not None:
        result["peak_mib"] = memory.beyond_baseline_mib
        result["imports_mib"] = memory.baseline_bytes / (1 << 20)
        result["memory_samples"] = memory.samples
    return result


def wait_for(child: subprocess.Popen[str], prefix: str) -> str:
    """The rest of the next line that begins with `prefix`; lines that peers print are passed over."""
    assert child.stdout is not None
    for line in child.stdout:
        if line.startswith(prefix):
            return line[len(prefix) :]
    raise EOFError
