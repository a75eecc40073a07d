"""Makes the indexes of files ahead of their first use: ``python -m zenith.index shards/*.tar data.csv``.

What is kept stands under ``ZENITH_CACHE_DIR`` (else ``~/.cache/zenith``), for the processes of a machine, or of all nodes that
mount that folder and the data at the same paths.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Sequence

import zenith
from zenith import _engine
from zenith.datasets import _first_file


def index(path: str) -> str:
    """Opens what is at ``path``, so that its index is kept, and says what that is."""
    found = _engine.format_of(_first_file(path))
    dataset: zenith.Dataset
    if found is None or found[0] == "WebDataset":
        # Whatever the members are, their keys are there; what is wrong with them is for whoever reads them.
        dataset = zenith.WebDataset(path, {"__key__": str}, duplicate="first", truncated="skip")
    elif found[0] == "Csv":
        dataset = zenith.open(path)
    else:
        return "has an index of its own"
    return f"{len(dataset):,} samples in {len(dataset.files):,} files"


def main(arguments: Sequence[str] | None = None) -> int:
    """Indexes each path; returns how many could not be."""
    parser = argparse.ArgumentParser(
        prog="python -m zenith.index", description="Makes the indexes of tar shards and CSV files."
    )
    parser.add_argument("paths", nargs="+", help="files, directories or globs (CSV files as zenith.open reads them)")
    failed = 0
    for path in parser.parse_args(arguments).paths:
        start = time.perf_counter()
        try:
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                outcome = index(path)
            print(f"{path}: {outcome} ({time.perf_counter() - start:.2f} s)")
            for warning in told:
                print(f"{path}: warning: {warning.message}", file=sys.stderr)
        except zenith.ZenithError as error:
            failed += 1
            print(f"{path}: {error}", file=sys.stderr)
    return failed


if __name__ == "__main__":
    sys.exit(min(main(), 125))
