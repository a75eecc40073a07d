"""``zenith_jax.shift_tokens`` against slices."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import zenith_jax

TOKENS = np.random.default_rng(0).integers(0, 50_000, (4, 9), dtype=np.uint16)


def test_targets_follow_inputs() -> None:
    for shift in (zenith_jax.shift_tokens, jax.jit(zenith_jax.shift_tokens), jax.vmap(zenith_jax.shift_tokens)):
        inputs, targets = shift(TOKENS)
        np.testing.assert_array_equal(inputs, TOKENS[:, :-1].astype(np.int32), strict=True)
        np.testing.assert_array_equal(targets, TOKENS[:, 1:].astype(np.int32), strict=True)


def test_nothing_is_predicted_across_documents() -> None:
    inputs, targets = zenith_jax.shift_tokens(np.array([5, 0, 7, 8, 0]), end=0, ignore=-100)
    np.testing.assert_array_equal(inputs, [5, 0, 7, 8])
    np.testing.assert_array_equal(targets, [0, -100, 8, 0])


def test_what_is_no_window_is_refused() -> None:
    with pytest.raises(TypeError, match="tokens must be integers, got float32"):
        zenith_jax.shift_tokens(jnp.zeros((2, 4)))
    for shape in [(), (3, 1)]:
        with pytest.raises(ValueError, match="T >= 1"):
            zenith_jax.shift_tokens(np.zeros(shape, np.int32))
