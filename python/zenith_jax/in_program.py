"""``next_batch``: batches that a compiled program asks for itself, in ``jit``, ``scan`` and ``while_loop``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir, partial_eval
from jax.sharding import PartitionSpec

from zenith_jax import _ffi

if TYPE_CHECKING:
    from zenith_jax.feed import Feed


class Served(NamedTuple):
    """What `next_batch` answers."""

    batch: dict[str, jax.Array]
    """The fields, each with ``batch_size`` rows. Rows that are no samples are zeros."""
    valid: jax.Array
    """How many rows are samples, ``int32``: less than ``batch_size`` in the last batch, and 0 past the end of the epoch."""
    token: jax.Array
    """Names the next batch. Past the end it stays."""


def next_batch(feed: Feed, k: Any, *, shard: Any = None) -> Served:
    """Batch ``k`` of the epoch: a pure function of the feed, ``k`` and the device, whichever device asks first.

    Call it in ``jit``, ``scan``, ``while_loop``, ``cond`` or outside of them, on CPU. On several devices every one of them has to
    ask for every batch; a program in which one does not fails after ``stall_timeout``.

    Args:
        feed: a `Feed`. Keep it as long as programs that use it run.
        k: the token of the batch before (``Served.token``, ``Feed.token`` to begin with), or a number. Batches are asked for in
            order: ``Feed.window`` bounds how far from it one may go, back and ahead.
        shard: inside a ``shard_map`` of your own: which shard's rows. They come as they are, for this device.

    Returns:
        A `Served` of ``batch``, ``valid`` and ``token``.

    Raises:
        jax.errors.JaxRuntimeError: while the program runs, with the engine's text: what could not be read, batches out of the
            window, a stalled device, an interrupt.
        NotImplementedError: under ``vmap`` and ``checkpoint``, and on platforms other than CPU.

    Example:
        >>> def step(carry, _):
        ...     params, token = carry
        ...     batch, valid, token = zenith_jax.next_batch(feed, token)
        ...     return (update(params, batch), token), None
        >>> (params, token), _ = jax.lax.scan(step, (params, feed.token), length=len(feed))
        >>> feed.state_dict(token)
    """
    _ffi.register()
    token = _token(k)
    options = {"feed": feed.id, "fields": feed._shapes}
    names = feed.names
    if shard is not None:
        valid, following, *fields = _next_batch.bind(token, jnp.asarray(shard).astype(jnp.uint32), **options)
        return Served(dict(zip(names, fields, strict=True)), valid, following)
    mesh = feed.mesh
    if mesh is None:
        valid, following, *fields = _next_batch.bind(token, jnp.uint32(0), **options)
        return Served(dict(zip(names, fields, strict=True)), valid, following)

    def here(token: jax.Array) -> Any:
        shard = jnp.uint32(0)
        for axis in feed.axes:
            shard = shard * jnp.uint32(mesh.shape[axis]) + jax.lax.axis_index(axis).astype(jnp.uint32)
        valid, following, *fields = _next_batch.bind(token, shard, **options)
        return valid, following, fields

    rows = [PartitionSpec(feed.axes)] * len(names)
    # Its checker of replication cannot see that the number of samples and the token are the same on every device.
    split = jax.shard_map(
        here,
        mesh=mesh,
        in_specs=PartitionSpec(),
        out_specs=(PartitionSpec(), PartitionSpec(), rows),
        check_vma=False,
    )
    valid, following, fields = split(token)
    return Served(dict(zip(names, fields, strict=True)), valid, following)


def _token(k: Any) -> jax.Array:
    """Two numbers of 32 bits, the low one first: JAX has no others unless it is told to."""
    if isinstance(k, (int, np.integer)):
        if not 0 <= int(k) < 2**64:
            raise ValueError(f"next_batch: k must be in 0..2**64, got {k}")
        return jnp.asarray(token(int(k)))
    array = jnp.asarray(k)
    if array.shape == (2,) and array.dtype == jnp.uint32:
        return array
    if array.shape == () and jnp.issubdtype(array.dtype, jnp.integer):
        low = (array & 0xFFFFFFFF).astype(jnp.uint32) if array.dtype.itemsize == 8 else array.astype(jnp.uint32)
        high = (array >> 32).astype(jnp.uint32) if array.dtype.itemsize == 8 else jnp.zeros_like(low)
        return jnp.stack([low, high])
    raise TypeError(f"next_batch: k must be a token (uint32[2]) or an integer, got {array.dtype}{list(array.shape)}")


def token(k: int) -> np.ndarray:
    """The token of batch ``k``."""
    return np.array([k & 0xFFFFFFFF, k >> 32], np.uint32)


_next_batch = Primitive("zenith_next_batch")
_next_batch.multiple_results = True


def _run(*arguments: Any, **options: Any) -> Any:
    return jax.jit(lambda *arguments: _next_batch.bind(*arguments, **options))(*arguments)


def _shapes(_token: Any, _shard: Any, *, fields: Any, **_: Any) -> Any:
    array = jax.core.ShapedArray
    return [array((), jnp.int32), array((2,), jnp.uint32), *(array(shape, jnp.dtype(dtype)) for shape, dtype in fields)]


def _call(token: jax.Array, shard: jax.Array, *, feed: int, fields: Any) -> Any:
    # Without side effects, as XLA knows them: a call is what its number and shard say. Two equal ones may become one, and one
    # whose rows nobody looks at may go.
    out = [jax.ShapeDtypeStruct((), jnp.int32), jax.ShapeDtypeStruct((2,), jnp.uint32)]
    out += [jax.ShapeDtypeStruct(shape, jnp.dtype(dtype)) for shape, dtype in fields]
    return jax.ffi.ffi_call("zenith_next_batch", out)(token, shard, feed=np.int64(feed))


def _lower_elsewhere(ctx: Any, *_: Any, **__: Any) -> Any:
    raise NotImplementedError(
        f"zenith_jax.next_batch runs on CPU only for now, and this program is for {', '.join(ctx.module_context.platforms)}. "
        "Iterate a zenith_jax.DataLoader there"
    )


def _refuse_vmap(*_: Any, **__: Any) -> Any:
    raise NotImplementedError(
        "zenith_jax.next_batch cannot be mapped by vmap: each lane would ask for a batch of its own. Call it outside of vmap, and "
        "map over the rows of the batch"
    )


def _refuse_remat(*_: Any, **__: Any) -> Any:
    raise NotImplementedError(
        "zenith_jax.next_batch cannot stand inside jax.checkpoint (remat): the backward pass would ask for the batch again, which "
        "may be gone by then. Call it outside, and pass the batch in"
    )


_next_batch.def_impl(_run)
_next_batch.def_abstract_eval(_shapes)
mlir.register_lowering(_next_batch, _lower_elsewhere)
mlir.register_lowering(_next_batch, mlir.lower_fun(_call, multiple_results=True), platform="cpu")
batching.primitive_batchers[_next_batch] = _refuse_vmap
partial_eval.partial_eval_jaxpr_custom_rules[_next_batch] = _refuse_remat
