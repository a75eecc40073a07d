"""The demo's two ranks: trained under zenith-run, killed, restarted, and what it says of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from examples.demo import data, summary, two_ranks

ROWS = 60_000


def test_a_killed_rank_loses_no_row(
    zenith_run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(two_ranks, "launcher", lambda: zenith_run)
    table = tmp_path / "table.parquet"
    data.write_table(table, ROWS)
    verdict = two_ranks.prove(table, ROWS, tmp_path)
    told = capfd.readouterr().err
    assert "failed: signal 9 (SIGKILL)" in told
    assert "restart 1 of 1" in told
    assert verdict.exact
    assert verdict.rows_before + verdict.rows_after == verdict.rows_unbroken == ROWS
    assert verdict.rows_before > 0
    assert verdict.rows_lost_work > 0
    assert verdict.last_loss < verdict.first_loss
    assert f"= {ROWS:,}, each once and in the order of an unbroken run" in summary.table([], None, verdict)

    # What the comparison is worth: a row that comes again is seen.
    log = tmp_path / "ranks.1.0.ids"
    log.write_bytes(log.read_bytes() + log.read_bytes()[-8:])
    spoiled = two_ranks.judge(table, ROWS, tmp_path)
    assert not spoiled.exact
    assert "NOT THE SAME" in summary.table([], None, spoiled)
