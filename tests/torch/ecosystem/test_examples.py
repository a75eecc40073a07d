"""The examples run as they stand, and check themselves."""

from __future__ import annotations

import contextlib
import importlib
import io
import sys
import tempfile
from pathlib import Path

import pytest
from ecosystem_processes import Server

ROOT = str(Path(__file__).parents[3])


def output_of(example: str, root: str) -> str:
    sys.path.insert(0, root)
    sys.argv = [example]
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.chdir(folder),
        contextlib.redirect_stdout(io.StringIO()) as output,
    ):
        importlib.import_module(f"examples.{example}").main()
    return output.getvalue()


@pytest.mark.parametrize(
    ("example", "says"),
    [
        ("resume", "the losses are the same to the last bit"),
        ("lightning_fit", "of the run that was resumed"),
        ("images", "what the model sees: images.png"),
    ],
)
def test_it_runs(server: Server, example: str, says: str) -> None:
    (text,) = server.run(output_of, example=example, root=ROOT)
    assert says in text
