"""``zenith_jax.normalize`` against numpy: values, layouts, transformations, shardings, refusals."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import zenith_jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def pictures(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def expected(images: np.ndarray, dtype: object, layout: str, scale: float = 1 / 255) -> np.ndarray:
    values = (images.astype(np.float32) * np.float32(scale) - np.float32(MEAN)) / np.float32(STD)
    return np.moveaxis(values.astype(dtype), -1, -3) if layout == "NCHW" else values.astype(dtype)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("shape", [(5, 33, 17, 3), (9, 4, 3), (2, 3, 8, 8, 3), (0, 4, 4, 3), (40, 64, 64, 3)])
def test_values_are_numpys_to_the_last_bit(dtype: object, layout: str, shape: tuple[int, ...]) -> None:
    images = pictures(*shape)
    found = jax.jit(lambda images: zenith_jax.normalize(images, MEAN, STD, dtype, layout=layout))(images)
    np.testing.assert_array_equal(np.asarray(found), expected(images, dtype, layout), strict=True)


def test_one_number_serves_all_channels_and_levels_need_no_scale() -> None:
    images = pictures(2, 4, 4, 1)
    found = zenith_jax.normalize(images, 127.5, 127.5, scale=1)
    np.testing.assert_array_equal(found, (images.astype(np.float32) - 127.5) / 127.5)


def test_it_is_mapped_and_scanned() -> None:
    images = pictures(4, 3, 8, 8, 3)

    def one(images: jax.Array) -> jax.Array:
        return zenith_jax.normalize(images, MEAN, STD, layout="NCHW")

    wanted = expected(images, np.float32, "NCHW")
    np.testing.assert_array_equal(jax.jit(jax.vmap(one, in_axes=1, out_axes=1))(images), wanted)
    _, scanned = jax.lax.scan(lambda carry, images: (carry, one(images)), 0, images)
    np.testing.assert_array_equal(scanned, wanted)


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_devices_work_on_their_own_pictures(layout: str) -> None:
    count = len(jax.devices())
    mesh = Mesh(np.array(jax.devices()).reshape(-1, min(count, 2)), ("data", "model"))
    images = pictures(16, 8, 8, 3)
    normalize = jax.jit(lambda images: zenith_jax.normalize(images, MEAN, STD, jnp.bfloat16, layout=layout))
    for spec in [("data",), (("data", "model"),), ()]:
        sharding = NamedSharding(mesh, PartitionSpec(*spec))
        shared = jax.device_put(images, sharding)
        found = normalize(shared)
        np.testing.assert_array_equal(np.asarray(found), expected(images, jnp.bfloat16, layout))
        assert found.sharding.is_equivalent_to(sharding, found.ndim)
        assert "all-gather" not in normalize.lower(shared).compile().as_text()
    # Rows of pictures are brought together first, for a picture is not cut.
    if count > 1:
        cut = jax.device_put(images, NamedSharding(mesh, PartitionSpec("data", "model")))
        np.testing.assert_array_equal(np.asarray(normalize(cut)), expected(images, jnp.bfloat16, layout))


def test_parameters_after_it_have_gradients_and_pictures_have_none() -> None:
    images = pictures(2, 4, 4, 3)

    def loss(weight: jax.Array) -> jax.Array:
        return (zenith_jax.normalize(images, MEAN, STD) * weight).sum()

    np.testing.assert_allclose(jax.grad(loss)(1.0), expected(images, np.float32, "NHWC").sum(), rtol=1e-4)
    with pytest.raises(TypeError, match=r"mean must be plain numbers, got a traced value.*no\s+gradient"):
        jax.grad(lambda mean: zenith_jax.normalize(images, mean, STD).sum())(jnp.array(MEAN))
    with pytest.raises(TypeError, match=r"images must be uint8, got float32.*no gradient"):
        jax.grad(lambda images: zenith_jax.normalize(images, MEAN, STD).sum())(images.astype(np.float32))


@pytest.mark.parametrize(
    ("arguments", "options", "error", "text"),
    [
        ((pictures(4, 4), MEAN, STD), {}, ValueError, r"shape \[\.\.\., height, width, channels\], got \[4, 4\]"),
        ((pictures(4, 4, 3), MEAN[:2], STD), {}, ValueError, "mean must be one number or 3"),
        ((pictures(4, 4, 3), MEAN, (1, 0, 1)), {}, ValueError, "std must not be 0"),
        ((pictures(4, 4, 3), (np.nan, 0, 0), STD), {}, ValueError, "mean must be finite"),
        ((pictures(4, 4, 3), MEAN, STD, np.int8), {}, ValueError, "dtype must be one of float32"),
        ((pictures(4, 4, 3), MEAN, STD), {"layout": "CHW"}, ValueError, "layout must be"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: tuple, options: dict, error: type, text: str) -> None:
    with pytest.raises(error, match=text):
        zenith_jax.normalize(*arguments, **options)


def test_a_program_for_a_gpu_is_refused_when_it_is_compiled() -> None:
    traced = jax.jit(lambda images: zenith_jax.normalize(images, MEAN, STD)).trace(pictures(2, 4, 4, 3))
    with pytest.raises(NotImplementedError, match=r"runs on CPU only for now, and this program is for cuda"):
        traced.lower(lowering_platforms=("cuda",))
