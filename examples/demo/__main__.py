"""The demo's entry: `make demo`, or `python -m examples.demo [--quick]`; at most five minutes."""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

NEEDED = ("torch", "pyarrow", "numpy", "tqdm", "matplotlib")
SEQUENCE_LENGTH, TOKEN_BATCH, ROW_BATCH = 128, 16, 4096


def main() -> int:
    """Returns 0 when all went well and the resume was exact, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m examples.demo", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small data and a few seconds each: checks that all works")
    parser.add_argument("--torch-only", action="store_true", help="only torch's side, where zenith is not built")
    parser.add_argument("--rows", type=int, help="rows of the table (default 4,000,000; quick 400,000)")
    parser.add_argument("--seconds", type=float, help="seconds of each training run (default 20; quick 3)")
    parser.add_argument(
        "--out", type=Path, default=Path("demo-out"), help="folder for the data, the table and the plot"
    )
    arguments = parser.parse_args()
    for name in ("rows", "seconds"):
        if getattr(arguments, name) is not None and getattr(arguments, name) <= 0:
            parser.error(f"--{name} must be above 0, got {getattr(arguments, name)}")
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        print(f"the demo needs {', '.join(missing)}: pip install -r requirements/demo.txt", file=sys.stderr)
        return 2
    if not arguments.torch_only and any(importlib.util.find_spec(name) is None for name in ("zenith", "zenith_torch")):
        print(
            "zenith is not installed here: run `make setup`, or pass --torch-only for torch's side alone",
            file=sys.stderr,
        )
        return 2
    try:
        return run(arguments)
    except KeyboardInterrupt:
        print("\nstopped; what was written lies in " + str(arguments.out), file=sys.stderr)
        return 130


def run(arguments: argparse.Namespace) -> int:
    """The parts one after the other, then the table and the plot."""
    from examples.demo import data, models, summary, two_ranks
    from examples.demo.kill_resume import prove
    from examples.demo.train import Result, train

    started_s = time.perf_counter()
    quick = arguments.quick
    rows = arguments.rows or (400_000 if quick else 4_000_000)
    seconds = arguments.seconds or (3.0 if quick else 20.0)
    arguments.out.mkdir(parents=True, exist_ok=True)
    corpus, table = (
        (arguments.out / f"stdlib{'-quick' if quick else ''}.bin").resolve(),
        (arguments.out / f"table-{rows}.parquet").resolve(),
    )
    data.write_corpus(corpus, 2_000_000 if quick else 1 << 40)
    data.write_table(table, rows)

    results: list[Result] = []
    for name, open_loader in loaders(arguments.torch_only, token_loaders(str(corpus))):
        results.append(
            train("bytes", name, open_loader(), lambda: models.ByteModel(SEQUENCE_LENGTH), models.byte_loss, seconds)
        )
    for name, open_loader in loaders(arguments.torch_only, row_loaders(str(table))):
        results.append(
            train(
                "table", name, open_loader(), lambda: models.classifier(data.FEATURE_COUNT), models.class_loss, seconds
            )
        )
    verdict = None if arguments.torch_only else prove(table, rows, arguments.out.resolve())
    together = None if arguments.torch_only else two_ranks.prove(table, rows, arguments.out.resolve())
    plot = summary.write(results, verdict, together, arguments.out)
    print()
    print(summary.table(results, verdict, together))
    print(f"plot: {plot}   ({time.perf_counter() - started_s:.0f} s)")
    if any(proof is not None and not proof.exact for proof in (verdict, together)):
        print("the resumed run is not the unbroken one: this is a bug", file=sys.stderr)
        return 1
    return 0


Opener = Callable[[], Any]


def loaders(torch_only: bool, openers: dict[str, Opener]) -> list[tuple[str, Opener]]:
    """The loaders to compare, Zenith first."""
    return [(name, opener) for name, opener in openers.items() if not (torch_only and name == "zenith")]


def token_loaders(path: str) -> dict[str, Opener]:
    """Every window of the corpus once per epoch, shuffled."""
    from examples.demo.torch_side import token_loader

    def ours() -> Any:
        import zenith
        from zenith_torch import DataLoader

        dataset = zenith.Tokens(path, dtype="uint16", seq_len=SEQUENCE_LENGTH)
        return DataLoader(dataset, batch_size=TOKEN_BATCH, shuffle=True, drop_last=True, num_workers=1, seed=0)

    return {
        "zenith": ours,
        "torch, 0 workers": lambda: token_loader(path, SEQUENCE_LENGTH, TOKEN_BATCH, 0),
        "torch, 2 workers": lambda: token_loader(path, SEQUENCE_LENGTH, TOKEN_BATCH, 2),
    }


def row_loaders(path: str) -> dict[str, Opener]:
    """Every row of the table once per epoch, shuffled."""
    from examples.demo.data import FEATURES, LABEL
    from examples.demo.torch_side import table_loader

    def ours() -> Any:
        import zenith
        from zenith_torch import DataLoader

        dataset = zenith.Parquet(path, stack={"x": list(FEATURES), "y": LABEL})
        return DataLoader(dataset, batch_size=ROW_BATCH, shuffle=True, num_workers=2, seed=0)

    return {
        "zenith": ours,
        "torch, 0 workers": lambda: table_loader(path, ROW_BATCH, 0),
        "torch, 2 workers": lambda: table_loader(path, ROW_BATCH, 2),
    }


if __name__ == "__main__":
    raise SystemExit(main())
