"""What a bar is: a ratio of two contenders' figures, and what it must reach."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Bar:
    """`figure` of the best of `ours` over that of the best of `theirs`, per round; the median over the rounds counts."""

    title: str
    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    bound: float
    figure: str = "samples_per_s"
    at_most: bool = False
    """True where small is good: the best is then the smallest, and the ratio must be at most `bound`."""
