"""The table and the plot, from the results' JSON and nothing else: `python -m benchmarks.loaders.report out/results.json`."""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

from benchmarks.loaders.bar import Bar
from benchmarks.loaders.bars import not_judged, verdicts
from benchmarks.loaders.special import MISSED, PARTS


def write(path: Path) -> str:
    """Writes `results.md` and `results.png` beside the JSON at `path`; returns the text."""
    results = json.loads(path.read_text())
    text = "\n".join(
        [
            *heading(results),
            *tables(results),
            *ratio_table(results),
            *picture_table(results),
            *part_tables(results),
            *bars_summary(results),
            *left_out(results),
        ]
    )
    path.with_suffix(".md").write_text(text + "\n")
    try:
        plot(results, path.with_suffix(".png"))
    except ImportError:
        text += "\n(no plot: matplotlib is not installed; pip install -r requirements/bench.txt)"
    return text


def heading(results: dict[str, Any]) -> list[str]:
    """What ran where."""
    machine, size, settings = results["machine"], results["size"], results["settings"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    note = " **A quick run: it shows that everything works, not how fast.**" if results["quick"] else ""
    return [
        "# Loaders",
        "",
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB, Linux {machine['kernel']}, "
        f"Python {machine['python']}; {versions}. Load at the start {machine['load_at_start']:.1f}.{note}",
        f"Table of {size['rows']:,} rows (28 × f32 + i64), CSV of {size['csv_rows']:,}, {size['token_count']:,} tokens (u16); page "
        f"cache warm; {settings['runs']} interleaved runs, each in a fresh process; median, and [least, greatest].",
        *corpus(results),
    ]


def corpus(results: dict[str, Any]) -> list[str]:
    """The pictures, if they were asked for."""
    found = results.get("pictures")
    if not found:
        return []
    return [
        f"{found['count']:,} JPEG pictures of {found['mean_kb']:.1f} KB in the mean and {found['large_count']} of 12 megapixels, "
        f"{found['large_mean_kb']:,.0f} KB, cut from {len(found['photographs'])} photographs."
    ]


def tables(results: dict[str, Any]) -> list[str]:
    """One table per work, the fastest first."""
    lines: list[str] = []
    works = dict.fromkeys(entry["work"] for entry in results["contenders"].values())
    for work in works:
        rows = [summary(name, entry, results) for name, entry in results["contenders"].items() if entry["work"] == work]
        present = sorted((row for row in rows if row), key=lambda row: -row["samples_per_s"][1])
        if not present:
            continue
        peers = [row["samples_per_s"][1] for row in present if not row["ours"] and not row["limit"]]
        lines += ["", f"## {work}", ""]
        lines += [
            "| loader | order | samples/s | ÷ best peer | first batch ms | gap p50 ms | p99 ms | CPU s / M | peak MiB |"
        ]
        lines += ["|---|---|--:|--:|--:|--:|--:|--:|--:|"]
        for row in present:
            name = f"**{row['title']}**" if row["ours"] else f"*{row['title']}*" if row["limit"] else row["title"]
            ratio = f"{row['samples_per_s'][1] / max(peers):.2f}" if peers else ""
            cells = [
                name,
                row["order"],
                spread(row["samples_per_s"], True),
                ratio,
                middle(row["first_batch_s"], 1e3, 0),
            ]
            cells += [middle(row["gap_p50_ms"], 1, 3), middle(row["gap_p99_ms"], 1, 2)]
            cells += [middle(row["cpu_s_per_million"], 1, 2), middle(row["peak_mib"], 1, 0)]
            lines.append("| " + " | ".join(cells) + " |")
    return lines


def summary(name: str, entry: dict[str, Any], results: dict[str, Any]) -> dict[str, Any] | None:
    """A contender's (least, median, greatest) of every figure, or None if it has no rate."""
    runs = [run for run in results.get("runs", []) if run["contender"] == name]
    if all(run["samples_per_s"] is None for run in runs):
        return None
    figures = ("samples_per_s", "first_batch_s", "gap_p50_ms", "gap_p99_ms", "cpu_s_per_million", "peak_mib")
    return {**entry, **{figure: three([run[figure] for run in runs if run[figure] is not None]) for figure in figures}}


def three(values: list[float]) -> tuple[float, float, float] | None:
    """Least, median, greatest."""
    return (min(values), statistics.median(values), max(values)) if values else None


def spread(values: tuple[float, float, float], thousands: bool) -> str:
    """`median [least, greatest]`, whole numbers."""
    least, median, greatest = values
    return (
        f"{median:,.0f} [{least:,.0f}, {greatest:,.0f}]" if thousands else f"{median:.2f} [{least:.2f}, {greatest:.2f}]"
    )


def middle(values: tuple[float, float, float] | None, scale: float, digits: int) -> str:
    """The median alone."""
    return "" if values is None else f"{values[1] * scale:,.{digits}f}"


def ratio_table(results: dict[str, Any]) -> list[str]:
    """The bars, met or not."""
    judged, missing = verdicts(results.get("runs", [])), bars_without_figures(results)
    if not judged and not missing:
        return []
    lines = ["", "## Ratios within one run", "", "| ratio | median [least, greatest] | bar | |", "|---|--:|--:|---|"]
    for bar, median, least, greatest, met in judged:
        sign = "≤" if bar.at_most else "≥"
        lines.append(
            f"| {bar.title} | {spread((least, median, greatest), False)} | {sign} {bar.bound} | {'met' if met else MISSED} |"
        )
    lines += [f"| {bar.title} | | {'≤' if bar.at_most else '≥'} {bar.bound} | not judged |" for bar in missing]
    return lines


def bars_without_figures(results: dict[str, Any]) -> list[Bar]:
    """The bars that the rounds were to judge and could not; none where the rounds did not run."""
    return not_judged(results["contenders"], results["runs"]) if "runs" in results else []


def picture_table(results: dict[str, Any]) -> list[str]:
    """How far everyone's central crops are from the reference, as the gate found it."""
    found = {name: entry for name, entry in results.get("gate", {}).items() if "difference_mean" in entry}
    if not found:
        return []
    lines = ["", "## Pictures against the reference (PIL, as torchvision uses it), in levels of 255", ""]
    lines += ["| loader | work | mean | mean of the worst picture | greatest | within 1 |", "|---|---|--:|--:|--:|--:|"]
    for name, entry in found.items():
        contender = results["contenders"][name]
        cells = [contender["title"], contender["work"], f"{entry['difference_mean']:.2f}"]
        cells += [
            f"{entry['difference_mean_worst']:.2f}",
            f"{entry['difference_max']}",
            f"{entry['within_one_share']:.2%}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def part_tables(results: dict[str, Any]) -> list[str]:
    """The special parts; each brings its own rows: `{"error": text}` or `{"columns": [...], "rows": [[...]], "title": text}`."""
    lines: list[str] = []
    for part in PARTS:
        found = results.get(part)
        if not found:
            continue
        lines += ["", f"## {found['title']}", ""]
        if "error" in found:
            lines.append(f"Not run: {found['error']}.")
        if found.get("rows"):
            lines += ["| " + " | ".join(found["columns"]) + " |", "|---" + "|--:" * (len(found["columns"]) - 1) + "|"]
            lines += ["| " + " | ".join(cell(value) for value in row) + " |" for row in found["rows"]]
    return lines


def bars_summary(results: dict[str, Any]) -> list[str]:
    """How many bars were met, which were not, and what could not be judged."""
    outcomes = {bar.title: met for bar, *_, met in verdicts(results.get("runs", []))}
    for part in PARTS:
        for row in results.get(part, {}).get("rows", []):
            for place, value in enumerate(row):
                if value in ("met", MISSED):
                    # The columns before a verdict are the figure and its bar.
                    outcomes[f"{row[0]} ({results[part]['columns'][place - 1]} {cell(row[place - 1])})"] = (
                        value == "met"
                    )
    missed = [title for title, met in outcomes.items() if not met]
    missing = [bar.title for bar in bars_without_figures(results)]
    missing += [f"{found['title']}: {found['error']}" for part in PARTS if "error" in (found := results.get(part, {}))]
    lines: list[str] = []
    if outcomes:
        met = f"**{len(outcomes) - len(missed)} of {len(outcomes)} bars met.**"
        lines += ["", met + (" Missed:" if missed else "")]
        lines += ["", *(f"- {title}" for title in missed)] if missed else []
    if missing:
        lines += ["", "**Not judged, for want of figures:**", "", *(f"- {title}" for title in missing)]
    return lines


def cell(value: object) -> str:
    """A cell: text as it is, numbers short."""
    return f"{value:,.2f}" if isinstance(value, float) else "" if value is None else str(value)


def left_out(results: dict[str, Any]) -> list[str]:
    """Contenders without a figure, and why."""
    reasons = {**results.get("skipped", {}), **results.get("failures", {})}
    for run in results.get("runs", []):
        if summary(run["contender"], {}, results) is None:
            reasons[run["contender"]] = "one batch only, so it has no rate"
    if not reasons:
        return []
    return ["", "## Without a figure", "", *(f"- `{name}`: {why}" for name, why in reasons.items())]


def plot(results: dict[str, Any], path: Path) -> None:
    """Bars of samples/s per work, the whiskers from the least to the greatest run."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    groups: dict[str, list[dict[str, Any]]] = {}
    for name, entry in results["contenders"].items():
        row = summary(name, entry, results)
        if row is not None:
            groups.setdefault(entry["work"], []).append(row)
    if not groups:
        return
    heights = [len(rows) + 1.5 for rows in groups.values()]
    figure, axes = pyplot.subplots(
        len(groups), 1, figsize=(10, 0.32 * sum(heights)), height_ratios=heights, squeeze=False, layout="constrained"
    )
    for axis, (work, rows) in zip(axes[:, 0], groups.items(), strict=True):
        rows.sort(key=lambda row: row["samples_per_s"][1])
        middles = [row["samples_per_s"][1] for row in rows]
        below = [row["samples_per_s"][1] - row["samples_per_s"][0] for row in rows]
        above = [row["samples_per_s"][2] - row["samples_per_s"][1] for row in rows]
        colours = ["#d9480f" if row["ours"] else "#ced4da" if row["limit"] else "#4c6ef5" for row in rows]
        axis.barh(
            [f"{row['title']} · {row['order']}" for row in rows], middles, xerr=[below, above], color=colours, capsize=2
        )
        axis.set_title(f"{work} (samples/s)", loc="left", fontsize=10)
        axis.tick_params(labelsize=8)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


if __name__ == "__main__":
    print(write(Path(sys.argv[1])))
