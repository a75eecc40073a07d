"""The rows of the benchmark: every value of a row is a function of its id, so any batch can be checked alone."""

from __future__ import annotations

import numpy as np

FEATURE_COUNT = 28
FEATURES: tuple[str, ...] = tuple(f"f{index:02d}" for index in range(FEATURE_COUNT))
LABEL = "label"
"""The i64 column that is both the label and the unique id of a row."""

TOKEN_COUNT_OF_VOCABULARY = 50_257
"""Token values are below this (GPT-2's vocabulary), so they need all of a u16."""


def features(ids: np.ndarray) -> np.ndarray:
    """The features of the rows `ids` (i64, [n]) as f32, [n, 28], spread like a normal distribution.

    A hash of (id, column) gives three 21-bit numbers, whose sum is nearly normal and hardly ever repeats. The sum is below 2^24,
    so all of it is exact in f32 and a delivered row must be equal to the last bit. It compresses as badly as measurements do.
    """
    state = mix(
        ids.astype(np.uint64)[:, None] * np.uint64(FEATURE_COUNT) + np.arange(FEATURE_COUNT, dtype=np.uint64)[None, :]
    )
    mask = np.uint64((1 << 21) - 1)
    total = (state & mask) + ((state >> np.uint64(21)) & mask) + ((state >> np.uint64(42)) & mask)
    return (total.astype(np.int64) - 3 * (1 << 20)).astype(np.float32) * np.float32(2.0**-20)


def tokens(start: int, count: int) -> np.ndarray:
    """The tokens at the positions [start, start + count) of the corpus, as u16, [count]."""
    state = mix(np.arange(start, start + count, dtype=np.uint64) + np.uint64(1 << 40))
    return (state % np.uint64(TOKEN_COUNT_OF_VOCABULARY)).astype(np.uint16)


def mix(state: np.ndarray) -> np.ndarray:
    """splitmix64's finaliser over u64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014)."""
    with np.errstate(over="ignore"):
        state = state + np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
