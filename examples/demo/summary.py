"""The short table and the plot at the demo's end."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from examples.demo import two_ranks
from examples.demo.kill_resume import Verdict
from examples.demo.train import Result


def table(results: list[Result], verdict: Verdict | None, together: two_ranks.Verdict | None) -> str:
    """A few lines of text; torch's best of 0 and 2 workers is marked and is what Zenith is compared with."""
    lines = [f"{'work':<10} {'loader':<20} {'samples/s':>12} {'waiting':>8} {'first loss':>11} {'last loss':>10}"]
    for work in dict.fromkeys(result.work for result in results):
        entries = [result for result in results if result.work == work]
        best = max((entry for entry in entries if entry.loader != "zenith"), key=lambda entry: entry.samples_per_s)
        for entry in entries:
            lines.append(
                f"{work:<10} {entry.loader + (' (best)' if entry is best else ''):<20} {entry.samples_per_s:>12,.0f} "
                f"{entry.waiting_share:>8.1%} {entry.first_loss:>11.3f} {entry.last_loss:>10.3f}"
            )
        ours = next((entry for entry in entries if entry.loader == "zenith"), None)
        if ours is not None:
            lines.append(f"{'':<10} zenith ÷ torch's best: {ours.samples_per_s / best.samples_per_s:.2f}")
    if verdict is not None:
        lines.append(
            f"kill -9    {verdict.rows_before:,} rows up to the last saved state + {verdict.rows_after:,} after the resume "
            f"{'=' if verdict.exact else '≠'} {verdict.rows_unbroken:,} of an unbroken run, "
            f"{'in the same order' if verdict.exact else 'NOT THE SAME'} ({verdict.rows_lost_work:,} rows done again)"
        )
    if together is not None:
        lines.append(
            f"two ranks  {together.rows_before:,} rows up to the last saved state + {together.rows_after:,} after the kill of one "
            f"{'=' if together.exact else '≠'} {together.rows_unbroken:,}, "
            f"{'each once and in the order of an unbroken run' if together.exact else 'NOT THE SAME'} "
            f"({together.rows_lost_work:,} rows done again)"
        )
        lines.append(
            f"{'':<10} {together.restart_s:.1f} s from the kill to the next batch; "
            f"loss from {together.first_loss:.3f} to {together.last_loss:.3f}"
        )
    return "\n".join(lines)


def write(results: list[Result], verdict: Verdict | None, together: two_ranks.Verdict | None, folder: Path) -> Path:
    """Writes `demo.json` and `demo.png`; returns the plot's path."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    proofs = {"kill": verdict, "two_ranks": together}
    everything = {"results": [asdict(result) for result in results]}
    everything |= {name: asdict(proof) if proof else None for name, proof in proofs.items()}
    (folder / "demo.json").write_text(json.dumps(everything))
    works = list(dict.fromkeys(result.work for result in results))
    figure, axes = pyplot.subplots(2, len(works), figsize=(5 * len(works), 6), squeeze=False, layout="constrained")
    for column, work in enumerate(works):
        entries = [result for result in results if result.work == work]
        axes[0, column].bar([entry.loader for entry in entries], [entry.samples_per_s for entry in entries])
        axes[0, column].set_title(f"{work}: samples/s in training")
        for entry in entries:
            samples, losses = np.array(entry.losses).T
            span = max(1, len(losses) // 50)
            smooth = np.convolve(losses, np.ones(span) / span, "valid")
            axes[1, column].plot(samples[span - 1 :], smooth, label=f"{entry.loader}, waits {entry.waiting_share:.0%}")
        axes[1, column].set(title="loss", xlabel="samples")
        axes[1, column].legend()
    path = folder / "demo.png"
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    return path
