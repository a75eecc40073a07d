"""From windows of tokens to what a language model is given and what it is to predict."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp


def shift_tokens(
    tokens: jax.typing.ArrayLike, *, dtype: Any = jnp.int32, end: int | None = None, ignore: int = -1
) -> tuple[jax.Array, jax.Array]:
    """Splits windows of ``T + 1`` tokens into the inputs and the targets of ``T`` positions each.

    Plain ``jax.numpy``, which XLA fuses with what follows, so that it runs on every platform, in ``vmap`` and under any
    sharding of the leading axes.

    Args:
        tokens: integers of shape ``[..., T + 1]``, of any width (``uint16`` as files have them).
        dtype: of both results.
        end: the token that ends a document. The position that has it as input gets ``ignore`` for a target: nothing of one
            document says how the next begins.
        ignore: the target of positions that a loss leaves out; needs ``end``.

    Returns:
        ``inputs`` and ``targets`` of shape ``[..., T]``: ``targets[..., i]`` follows ``inputs[..., i]``.

    Raises:
        TypeError: the tokens are not integers.
        ValueError: the windows have fewer than two tokens.
    """
    array = jnp.asarray(tokens)
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise TypeError(f"shift_tokens: tokens must be integers, got {array.dtype}")
    if array.ndim == 0 or array.shape[-1] < 2:
        raise ValueError(f"shift_tokens: tokens must have the shape [..., T + 1] with T >= 1, got {list(array.shape)}")
    inputs, targets = array[..., :-1].astype(dtype), array[..., 1:].astype(dtype)
    if end is not None:
        targets = jnp.where(array[..., :-1] == end, jnp.asarray(ignore, dtype), targets)
    return inputs, targets
