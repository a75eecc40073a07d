"""The benchmark of loaders judges what was measured, measures what opens slowly, and lets no wrong batch through its gate."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import DataLoader

from benchmarks.loaders import bars, report
from benchmarks.loaders.child import timed
from benchmarks.loaders.contender import Contender, all_contenders
from benchmarks.loaders.data import Files, Size
from benchmarks.loaders.gate import GateError, check
from benchmarks.loaders.memory_scenario import growth_mib
from benchmarks.loaders.python_datasets import WORKS

BAR = next(bar for bar in bars.BARS if bar.ours == ("zenith-python-dict-w2",))
FILES = Files("", Size(rows=5000))


def results(ours: float | None, theirs: float | None) -> dict[str, Any]:
    """Of one round of both sides of `BAR`."""
    runs = [
        {"contender": name, "round": 0, "samples_per_s": rate, "peak_mib": 1.0}
        | dict.fromkeys(("first_batch_s", "gap_p50_ms", "gap_p99_ms", "cpu_s_per_million"), 1.0)
        for name, rate in ((BAR.ours[0], ours), (BAR.theirs[0], theirs))
    ]
    return {"contenders": {name: {} for name in (*BAR.ours, *BAR.theirs)}, "runs": runs}


def test_bars_are_judged_by_contenders_that_exist() -> None:
    contenders = all_contenders()
    assert [name for bar in bars.BARS for name in (*bar.ours, *bar.theirs) if name not in contenders] == []


@pytest.mark.parametrize(("ours", "met"), [(230.0, True), (210.0, False)])
def test_a_bar_is_the_ratio_of_a_round(ours: float, met: bool) -> None:
    found = results(ours, 100.0)
    assert bars.verdicts(found["runs"]) == [(BAR, ours / 100, ours / 100, ours / 100, met)]
    assert bars.not_judged(found["contenders"], found["runs"]) == []
    assert any("of 1 bars met" in line for line in report.bars_summary(found))


@pytest.mark.parametrize(("ours", "theirs"), [(None, 100.0), (100.0, None)])
def test_a_bar_without_a_figure_is_named_and_not_judged(ours: float | None, theirs: float | None) -> None:
    found = results(ours, theirs)
    assert bars.verdicts(found["runs"]) == []
    summary = report.bars_summary(found)
    assert f"- {BAR.title}" in summary
    assert not any("bars met" in line for line in summary)
    assert any(BAR.title in line and "not judged" in line for line in report.ratio_table(found))
    assert any("one batch only" in line for line in report.left_out(found))


def test_a_bar_whose_contenders_were_not_chosen_is_not_named() -> None:
    assert bars.not_judged({BAR.ours[0]}, []) == []


class Endless:
    """Batches without end, at once."""

    def epoch(self, epoch: int) -> Iterator[Any]:
        while True:
            yield [0], [0]


class Single:
    """An epoch of one batch."""

    def epoch(self, epoch: int) -> Iterator[Any]:
        yield [0], [0]


def fake(work: str, feed: Callable[[Files], Any]) -> Contender:
    return Contender(name="fake", title="", work=work, order="random", open=feed, path=None)


def test_the_budget_runs_from_the_first_batch() -> None:
    def open_slowly(files: Files) -> Endless:
        time.sleep(0.3)
        return Endless()

    found = timed(fake("tokens", open_slowly), FILES, epochs=1, budget_s=0.1)
    assert found["samples"] > 2
    assert found["samples_per_s"] > 0
    assert found["first_batch_s"] >= 0.3
    assert found["wall_s"] >= 0.4


def test_one_batch_is_no_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.loaders.child.EPOCHS_MAX", 1)
    assert timed(fake("tokens", lambda files: Single()), FILES, epochs=1, budget_s=0.1)["samples_per_s"] is None


@pytest.mark.parametrize(("sizes_mib", "growth"), [((9, 7, 5, 5, 6, 4, 5, 8), 3.0), ((9, 7, 5, 5), 0.0)])
def test_growth_is_that_after_the_second_epoch(sizes_mib: tuple[int, ...], growth: float) -> None:
    """One sample in the middle of each epoch of a second; a quarter of the epochs is looked at, from the third on."""
    ends_s = [float(epoch + 1) for epoch in range(len(sizes_mib))]
    samples = [(end_s - 0.5, size << 20) for end_s, size in zip(ends_s, sizes_mib, strict=True)]
    assert growth_mib({"epoch_ends_s": ends_s, "memory_samples": samples}) == growth
    assert growth_mib({"epoch_ends_s": ends_s, "memory_samples": samples[:2]}) is None


def swapped(batches: list[Any]) -> list[Any]:
    return [batches[1], batches[0], *batches[2:]]


def written_again(batches: list[Any]) -> Iterator[Any]:
    """All batches in the memory of the first, as a loader that recycles what is still held."""
    memory = batches[0]
    for batch in batches:
        for held, new in zip(memory, batch, strict=True):
            held[: len(new)] = new
        yield [held[: len(new)] for held, new in zip(memory, batch, strict=True)]


def as_tuples(batches: list[Any]) -> list[Any]:
    return [tuple(batch) for batch in batches]


def other_dtype(batches: list[Any]) -> list[Any]:
    return [[x.float(), y] for x, y in batches]


@pytest.mark.parametrize(
    ("deliver", "text"),
    [
        (swapped, "samples from 0 to 255"),
        (written_again, "samples from 0 to 255"),
        (as_tuples, "samples from 0 to 255"),
        (other_dtype, "samples from 0 to 255"),
        (lambda batches: batches[:-1], "ends after 4864 of 5000"),
        (lambda batches: [*batches, batches[0]], "goes on after all of its 5000"),
    ],
)
def test_the_gate_refuses_wrong_batches(deliver: Callable[[list[Any]], Any], text: str) -> None:
    class Wrong:
        def epoch(self, epoch: int) -> Iterator[Any]:
            return iter(deliver(list(DataLoader(WORKS["python-scalars"].make(5000), batch_size=256))))

    with pytest.raises(GateError, match=text):
        check(fake("python-scalars", lambda files: Wrong()), FILES, 1, 600.0)


@pytest.mark.parametrize("work", WORKS)
def test_the_gate_lets_torch_pass(work: str, tmp_path: Path) -> None:
    files = Files(str(tmp_path), Size(rows=64 * WORKS[work].rows_per_sample + 1))
    found = check(all_contenders()[f"torch-{work}-w2"], files, 2, 600.0)
    assert found["samples"] == 2 * WORKS[work].samples(files)
