"""`python -m benchmarks.loaders`: the gate, the interleaved runs, the special parts, then the table and the plot."""

from __future__ import annotations

import argparse
import fnmatch
import json
import sys
from pathlib import Path

from benchmarks.loaders import data, photographs, report
from benchmarks.loaders.contender import Contender, all_contenders
from benchmarks.loaders.environment import machine
from benchmarks.loaders.jax_tables import DEVICES as JAX_WORKS
from benchmarks.loaders.pictures import WORKS as PICTURE_WORKS
from benchmarks.loaders.process import ROOT
from benchmarks.loaders.rounds import Settings, gate_all, prepare_all, run_rounds
from benchmarks.loaders.special import PARTS, run_parts

DEFAULT_OUT = ROOT / "benchmarks" / "loaders" / "out"
DEFAULT_PARTS = ("loaders", *(part for part in PARTS if part != "images"))
"""Pictures are asked for by name, because their peers are large to install."""
PICTURES_PER_LARGE, GATE_PICTURES = 32, 161
"""One picture of 12 megapixels for so many others; and as many pictures as the gate looks at, which fill no whole batch."""


def main() -> int:
    """Returns 0, or 1 when a contender of ours failed its gate or its run, 130 after Ctrl-C."""
    arguments = parse(sys.argv[1:])
    try:
        return run(arguments)
    except KeyboardInterrupt:
        print(
            "\nstopped; the data files stay; results.json is written after the rounds and at the end", file=sys.stderr
        )
        return 130


def parse(argv: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loaders", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small table and one short run: checks that all works")
    parser.add_argument("--rows", type=int, help="rows of the table (default 4,000,000; quick 400,000)")
    parser.add_argument("--pictures", type=int, help="pictures of the corpus (default 1,024; quick 256)")
    parser.add_argument(
        "--only", action="append", default=[], metavar="GLOB", help="only contenders that match; repeatable"
    )
    parser.add_argument("--all", action="store_true", help="also the variants that are left out by default")
    parser.add_argument("--runs", type=int, help="rounds (default 3; quick 1)")
    parser.add_argument(
        "--budget", type=float, help="seconds of one timed run at most, from its first batch (default 10; quick 2)"
    )
    parser.add_argument(
        "--parts",
        default=",".join(DEFAULT_PARTS),
        help="comma list of: loaders, jax, "
        + ", ".join(PARTS)
        + "; default all but jax, the rows of JAX, and images, which runs the rows of pictures too",
    )
    parser.add_argument("--list", action="store_true", help="print the contenders and whether they can run here")
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, help="folder of the data and the results")
    arguments = parser.parse_args(argv)
    wrong = sorted(set(arguments.parts.split(",")) - {"loaders", "jax", *PARTS})
    if wrong:
        parser.error(f"--parts has {', '.join(wrong)}; the parts are loaders, jax, {', '.join(PARTS)}")
    for name in ("rows", "runs", "pictures"):
        if getattr(arguments, name) is not None and getattr(arguments, name) < 1:
            parser.error(f"--{name} must be >= 1, got {getattr(arguments, name)}")
    return arguments


def run(arguments: argparse.Namespace) -> int:
    """Everything, and the files at its end."""
    chosen = choose(all_contenders(), arguments)
    if arguments.list:
        for contender in chosen:
            print(f"{contender.name:42} {contender.work:20} {contender.missing() or 'ready'}")
        return 0
    quick = arguments.quick
    rows = arguments.rows or (400_000 if quick else 4_000_000)
    size = data.Size(rows, max(1, rows // 4), 5_000_000 if quick else 50_000_000)
    settings = Settings(
        runs=arguments.runs or (1 if quick else 3),
        budget_s=arguments.budget or (2.0 if quick else 10.0),
        gate_budget_s=5.0 if quick else 20.0,
    )
    arguments.out.mkdir(parents=True, exist_ok=True)
    parts = arguments.parts.split(",")
    files = data.place(arguments.out / "data", size)
    gate_files = data.place(arguments.out / "data", data.GATE_SIZE)
    if set(parts) - {"loaders", "images"} or any(contender.work not in PICTURE_WORKS for contender in chosen):
        data.ensure(files)
        data.ensure(gate_files)
    results: dict[str, object] = {"machine": machine(), "size": vars(size), "settings": vars(settings), "quick": quick}
    results["contenders"] = {contender.name: describe(contender) for contender in chosen}
    skipped = {contender.name: why for contender in chosen if (why := contender.missing())}
    if "images" in parts or any(contender.work in PICTURE_WORKS for contender in chosen):
        if why := ensure_pictures(arguments, files, gate_files):
            skipped |= {contender.name: why for contender in chosen if contender.work in PICTURE_WORKS}
        else:
            results["pictures"] = json.loads(photographs.note_of(files).read_text())
    ready = [contender for contender in chosen if contender.name not in skipped]
    if {"loaders", "images", "jax"} & set(parts):
        skipped |= prepare_all(ready, (gate_files, files))
        results["gate"], refused = gate_all(
            [contender for contender in ready if contender.name not in skipped], gate_files, files, settings
        )
        skipped |= refused
        results |= run_rounds([contender for contender in ready if contender.name not in skipped], files, settings)
    results["skipped"] = skipped
    path = arguments.out / "results.json"
    path.write_text(json.dumps(results, indent=1))  # So that a part that is stopped does not take the rounds with it.
    results |= run_parts([part for part in parts if part in PARTS], files, quick)
    path.write_text(json.dumps(results, indent=1))
    print(report.write(path))
    failures: object = results.get("failures", {})
    assert isinstance(failures, dict)
    broken = {**{name: why for name, why in skipped.items() if why.startswith("gate:")}, **failures}
    return 1 if any(name.startswith("zenith") for name in broken) else 0


def ensure_pictures(arguments: argparse.Namespace, files: data.Files, gate_files: data.Files) -> str | None:
    """Writes both corpora; returns why that cannot be, or None."""
    pictures = arguments.pictures or (256 if arguments.quick else 1024)
    try:
        for of, count in ((files, pictures), (gate_files, GATE_PICTURES)):
            photographs.ensure(of, count, max(1, count // PICTURES_PER_LARGE))
    except ModuleNotFoundError as error:
        return str(error)
    return None


def choose(contenders: dict[str, Contender], arguments: argparse.Namespace) -> list[Contender]:
    """The contenders that the command line asks for, in the order of the table."""
    if arguments.only:
        chosen = [
            entry for entry in contenders.values() if any(fnmatch.fnmatch(entry.name, glob) for glob in arguments.only)
        ]
        if not chosen:
            raise SystemExit(f"--only {' '.join(arguments.only)} matches no contender; --list --all prints them all")
        return chosen
    parts = arguments.parts.split(",")
    return [
        entry
        for entry in contenders.values()
        if arguments.all or (not entry.skipped_by_default and part_of(entry) in parts)
    ]


def part_of(contender: Contender) -> str:
    """Which of `--parts` runs it."""
    if contender.work in PICTURE_WORKS:
        return "images"
    return "jax" if contender.work in JAX_WORKS else "loaders"


def describe(contender: Contender) -> dict[str, object]:
    """What the report needs to know of a contender."""
    return {key: getattr(contender, key) for key in ("title", "work", "order", "limit", "ours")}


if __name__ == "__main__":
    raise SystemExit(main())
