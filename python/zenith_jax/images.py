"""Pictures of 8 bits as numbers, in one pass over memory: a custom call whose CPU handler is the engine's."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax._src import dispatch
from jax.experimental.custom_partitioning import custom_partitioning
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jax.sharding import NamedSharding, PartitionSpec

from zenith_jax import _ffi

_DTYPES = ("float32", "bfloat16", "float16")


def normalize(
    images: jax.typing.ArrayLike,
    mean: float | Sequence[float] | np.ndarray,
    std: float | Sequence[float] | np.ndarray,
    dtype: Any = jnp.float32,
    *,
    layout: str = "NHWC",
    scale: float = 1 / 255,
) -> jax.Array:
    """``(images * scale - mean) / std``, computed in float32 and rounded to ``dtype`` once.

    Works inside ``jit``, ``vmap``, ``scan`` and ``shard_map``, and under ``jit`` with arrays that are sharded along their
    leading axes. On CPU only for now.

    Args:
        images: ``uint8`` of shape ``[..., height, width, channels]``.
        mean, std: a number, or one for each channel; plain numbers, not traced ones.
        dtype: ``float32``, ``bfloat16`` or ``float16``.
        layout: of the result: ``"NHWC"`` as the images lie, or ``"NCHW"``: ``[..., channels, height, width]``.
        scale: what levels are multiplied by first: 1/255 for a mean and std of values from 0 to 1, 1 for those of levels.

    Raises:
        TypeError: the images are not ``uint8``, or mean or std are traced: there is no gradient.
        ValueError: shapes, dtype or layout are not as above.
        NotImplementedError: the platform is not CPU.

    Example:
        >>> normalize(images, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), jnp.bfloat16, layout="NCHW")
    """
    array = _levels(images)
    if array.ndim < 3:
        raise ValueError(
            f"normalize: images must have the shape [..., height, width, channels], got {list(array.shape)}"
        )
    name = np.dtype(dtype).name
    if name not in _DTYPES:
        raise ValueError(f"normalize: dtype must be one of {', '.join(_DTYPES)}, got {name}")
    if layout not in ("NHWC", "NCHW"):
        raise ValueError(f'normalize: layout must be "NHWC" or "NCHW", got {layout!r}')
    channels = array.shape[-1]
    by = {"mean": _numbers("mean", mean, channels), "std": _numbers("std", std, channels)}
    if 0.0 in by["std"]:
        raise ValueError("normalize: std must not be 0")
    _ffi.register()
    result: jax.Array = _normalize.bind(array, **by, scale=float(scale), dtype=name, planes=layout == "NCHW")
    return result


def _levels(images: Any) -> jax.Array:
    dtype = getattr(images, "dtype", None)
    if dtype is None:
        images = np.asarray(images)
        dtype = images.dtype
    if dtype != np.uint8:
        raise TypeError(
            f"normalize: images must be uint8, got {dtype}. It has no gradient either: pictures that are floats already are "
            "normalised by jax.numpy"
        )
    return jnp.asarray(images)


def _numbers(name: str, value: Any, channels: int) -> tuple[float, ...]:
    if isinstance(value, jax.core.Tracer):
        raise TypeError(
            f"normalize: {name} must be plain numbers, got a traced value: they are compiled into the call, and there is no "
            "gradient. Pass a tuple of floats, or a numpy array made outside jit and grad"
        )
    numbers = np.asarray(value, np.float32)
    if numbers.shape not in ((), (1,), (channels,)):
        raise ValueError(
            f"normalize: {name} must be one number or {channels}, one for each channel, got {numbers.shape}"
        )
    if not np.isfinite(numbers).all():
        raise ValueError(f"normalize: {name} must be finite, got {value}")
    return tuple(float(number) for number in np.broadcast_to(numbers.reshape(-1), (channels,)))


def _result(shape: tuple[int, ...], planes: bool) -> tuple[int, ...]:
    *leading, height, width, channels = shape
    return (*leading, channels, height, width) if planes else shape


_normalize = Primitive("zenith_normalize")


def _run(images: jax.Array, **options: Any) -> Any:
    return _jitted(tuple(sorted(options.items())))(images)


@functools.lru_cache(maxsize=64)
def _jitted(options: tuple[tuple[str, Any], ...]) -> Any:
    return jax.jit(functools.partial(_normalize.bind, **dict(options)))


def _shape(images: Any, *, dtype: str, planes: bool, **_: Any) -> Any:
    return jax.core.ShapedArray(_result(images.shape, planes), jnp.dtype(dtype))


def _call(images: jax.Array, mean: Any, std: Any, scale: float, dtype: str, planes: bool) -> jax.Array:
    """The custom call, for the pictures of one device."""
    out = jax.ShapeDtypeStruct(_result(images.shape, planes), jnp.dtype(dtype))
    options = {"mean": np.asarray(mean, np.float32), "std": np.asarray(std, np.float32), "scale": np.float32(scale)}
    result: jax.Array = jax.ffi.ffi_call("zenith_normalize", out)(images, **options, planes=planes)
    return result


def _partitioned(rank: int, planes: bool, **options: Any) -> Any:
    """The custom call for pictures that may be shared out among devices along their leading axes."""

    def here(images: jax.Array) -> jax.Array:
        return _call(images, planes=planes, **options)

    def partition(mesh: Any, _arguments: Any, result: Any) -> Any:
        leading = tuple(result.sharding.spec)[: rank - 3]
        sharding = NamedSharding(mesh, PartitionSpec(*leading))
        return mesh, here, sharding, (sharding,)

    leading = [f"n{axis}" for axis in range(rank - 3)]
    after = ["c", "h", "w"] if planes else ["h", "w", "c"]
    call = custom_partitioning(here)
    call.def_partition(
        partition=partition,
        sharding_rule=f"{' '.join([*leading, 'h', 'w', 'c'])} -> {' '.join([*leading, *after])}",
        need_replication_factors=("h", "w", "c"),
    )
    return call


def _lower_on_cpu(ctx: Any, images: Any, *, planes: bool, **options: Any) -> Any:
    call = _partitioned(len(ctx.avals_in[0].shape), planes, **options)
    return mlir.lower_fun(call, multiple_results=False)(ctx, images)


def _lower_elsewhere(ctx: Any, *_: Any, **__: Any) -> Any:
    raise NotImplementedError(
        f"zenith_jax.normalize runs on CPU only for now, and this program is for {', '.join(ctx.module_context.platforms)}. "
        "Use jax.numpy there: ((images * scale - mean) / std).astype(dtype)"
    )


def _batch(arguments: Any, axes: Any, **options: Any) -> Any:
    (images,), (axis,) = arguments, axes
    return _normalize.bind(jnp.moveaxis(images, axis, 0), **options), 0


def _no_gradient(*_: Any, **__: Any) -> Any:
    raise TypeError("zenith_jax.normalize has no gradient: its input is uint8")


# `custom_partitioning` asks which devices a program is for, and JAX tells only programs that it sees to ask. It sees the
# primitives of a program and not what their lowerings call; there is no public way to say so.
dispatch.prim_requires_devices_during_lowering.add(_normalize)
_normalize.def_impl(_run)
_normalize.def_abstract_eval(_shape)
mlir.register_lowering(_normalize, _lower_elsewhere)
mlir.register_lowering(_normalize, _lower_on_cpu, platform="cpu")
batching.primitive_batchers[_normalize] = _batch
ad.primitive_jvps[_normalize] = _no_gradient
