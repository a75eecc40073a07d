"""Parts of batches as the engine hands them out by DLPack: taken over by several libraries, once, late or never."""

from __future__ import annotations

import gc
from typing import Any

import jax
import ml_dtypes
import numpy as np
import pytest
import torch
import zenith
from zenith import _engine
from zenith.errors import KINDS

DTYPES = [
    *("bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"),
    *("float16", "bfloat16", "float32", "float64"),
]


def part_of(dtype: str = "int32", shape: tuple[int, ...] = (2,)) -> tuple[Any, _engine.Part, np.ndarray[Any, Any]]:
    """A source, its only part of three rows, and what that must hold."""
    own = np.dtype(ml_dtypes.bfloat16) if dtype == "bfloat16" else np.dtype(dtype)
    values = np.arange(3 * int(np.prod(shape))).reshape(3, *shape).astype(own)
    source = _engine._test_source([(dtype, list(shape), values.tobytes())], 3)
    status, parts = _engine.next_parts(source.id, 0)
    assert (status, len(parts)) == (0, 1)
    return source, parts[0], values


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_type_arrives_as_it_is(dtype: str) -> None:
    source, part, values = part_of(dtype)
    assert (part.dtype, part.shape, part.nbytes) == (dtype, [3, 2], values.nbytes)
    assert source.pointers == [part.pointer]
    with jax.enable_x64(True):
        np.testing.assert_array_equal(np.asarray(jax.dlpack.from_dlpack(part)), values)
    raw = np.from_dlpack(part.raw())
    assert (raw.ctypes.data, raw.tobytes()) == (part.pointer, values.tobytes())
    tensor = torch.from_dlpack(part)
    assert tensor.data_ptr() == part.pointer
    assert tensor.view(torch.uint8).numpy().tobytes() == values.tobytes()
    if dtype != "bfloat16":
        array = np.from_dlpack(part)
        assert not array.flags.writeable, "others may have arrays over the same memory"
        np.testing.assert_array_equal(array, values)


def test_shapes_without_extents_or_without_elements() -> None:
    for shape in ((), (0,), (2, 0, 3)):
        _, part, values = part_of("float32", shape)
        array = np.asarray(jax.dlpack.from_dlpack(part))
        assert array.shape == values.shape


def test_memory_is_released_once_and_by_the_last_who_has_it() -> None:
    gc.collect()  # What other tests left.
    before = _engine.leases()
    source, part, _ = part_of()
    assert (_engine.leases(), source.leased, source.released) == (before + 1, 1, 0)
    arrays = [np.from_dlpack(part), torch.from_dlpack(part), np.from_dlpack(part.raw())]
    unused = [part.__dlpack__(), part.on(3).__dlpack__(max_version=(1, 0))]
    del part
    while arrays:
        assert source.released == 0
        arrays.pop()
    assert source.released == 0
    del unused
    gc.collect()
    assert (_engine.leases(), source.released) == (before, 1)


def test_a_capsule_is_consumed_once() -> None:
    source, part, values = part_of()
    capsule = part.__dlpack__()
    tensor = torch.utils.dlpack.from_dlpack(capsule)
    with pytest.raises(RuntimeError, match="once"):
        torch.utils.dlpack.from_dlpack(capsule)
    del capsule, part
    np.testing.assert_array_equal(tensor.numpy(), values)
    assert source.released == 0
    del tensor
    assert source.released == 1


def test_what_the_protocol_may_ask_and_parts_do_not_do_is_refused() -> None:
    _, part, _ = part_of()
    assert (part.__dlpack_device__(), part.on(5).__dlpack_device__()) == ((1, 0), (1, 5))
    for wrong in ({"copy": True}, {"stream": 1}, {"dl_device": (2, 0)}, {"dl_device": (1, 4)}):
        with pytest.raises(BufferError, match="as it is"):
            part.__dlpack__(**wrong)
    assert "dltensor_versioned" in repr(part.__dlpack__(max_version=(1, 3), dl_device=(1, 0), copy=False))
    assert '"dltensor"' in repr(part.__dlpack__(max_version=(0, 8)))


@pytest.mark.parametrize("device", range(jax.device_count()))
def test_a_part_arrives_on_the_device_that_it_names(device: int) -> None:
    _, part, values = part_of()
    array = jax.dlpack.from_dlpack(part.on(device))
    assert array.devices() == {jax.local_devices()[device]}
    np.testing.assert_array_equal(array, values)


def test_answers_of_a_loader_and_its_errors() -> None:
    source = _engine._test_source([("uint8", [], b"abc")], 3, "pbe!b")
    assert _engine.next_parts(source.id, 0) == (1, [])
    assert _engine.next_parts(source.id, 0)[0] == 0
    with pytest.raises(zenith.CorruptError, match="this error was asked for") as raised:
        _engine.next_parts(source.id, 0)
    assert (raised.value.file, raised.value.row, raised.value.field) == ("scripted.bin", 77, "x")
    with pytest.raises(zenith.InternalError, match="panicked in next_parts"):
        _engine.next_parts(source.id, 0)
    assert _engine.next_parts(source.id, 0)[0] == 0
    assert _engine.next_parts(source.id, 0) == (2, [])
    source.close()
    for stale in (source.id, 2**63):
        with pytest.raises(zenith.InvalidArgumentError, match="no open loader"):
            _engine.next_parts(stale, 0)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_errors_keep_their_kind(kind: int) -> None:
    source = _engine._test_source([("uint8", [], b"abc")], 3, "e", kind)
    with pytest.raises(KINDS[kind]):
        _engine.next_parts(source.id, 0)
