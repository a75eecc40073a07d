"""Pictures for the tests, drawn from fixed seeds: as rough as noise, as smooth as a sky, and in between."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def noise(height: int, width: int, channels: int = 3, seed: int = 1) -> Array:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def scene(height: int, width: int, channels: int = 3) -> Array:
    """Waves with a bright corner and some noise: many levels, edges, saturated colours."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    planes = [
        128 + 100 * np.sin((x * (c + 1) + y * (3 - c)) / 17) + 60 * ((x > width * 0.7) & (y < height * 0.4))
        for c in range(channels)
    ]
    rough = np.random.default_rng(5).normal(0, 8, (height, width, channels))
    levels = np.clip(np.stack(planes, axis=-1) + rough, 0, 255).astype(np.uint8)
    return levels if channels > 1 else levels[:, :, 0]


def all_colours(step: int = 5) -> Array:
    """A picture in which levels of a coarse grid, and both ends, stand beside each other in all combinations."""
    levels = np.unique(np.r_[np.arange(0, 256, step), 254, 255]).astype(np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1)
    return np.ascontiguousarray(grid.reshape(len(levels), -1, 3))
