"""Messages: what a worker sends arrives equal, as torch's own queue brings it."""

from __future__ import annotations

import dataclasses
import os
import pickle
from collections import namedtuple
from multiprocessing.reduction import ForkingPickler
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from process_support import Call, identity, in_a_child, status_of
from torch import Tensor
from zenith import _engine
from zenith_torch import DataLoader
from zenith_torch._ops import arena_put
from zenith_torch.process.message import Decoder, Encoder

Point = namedtuple("Point", "x y")


@dataclasses.dataclass
class Record:
    name: str
    value: Any


class Marked(torch.Tensor):
    pass


DTYPES = [
    *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.uint16, torch.uint32),
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128),
]

shapes = st.sampled_from([(), (0,), (1,), (3,), (0, 4), (2, 3), (2, 0, 2), (4, 5, 6), (70, 100)])


@st.composite
def tensors(draw: Any) -> Tensor:
    shape, dtype = draw(shapes), draw(st.sampled_from(DTYPES))
    count = int(np.prod(shape))
    values = (torch.arange(count) % 100).to(dtype).reshape(shape)
    way = draw(st.sampled_from(["as is", "transposed", "sliced", "expanded", "offset", "grad", "marked", "parameter"]))
    if way == "transposed" and values.dim() > 1:
        return values.transpose(0, 1)
    if way == "sliced" and values.dim() and values.shape[-1]:
        return values[..., ::2]
    if way == "expanded":
        return values[None].expand(3, *shape)
    if way == "offset" and values.dim() and values.shape[0] > 1:
        return values[1:]
    if way == "grad" and (dtype.is_floating_point or dtype.is_complex):
        return values.requires_grad_()
    if way == "parameter" and dtype.is_floating_point:
        return torch.nn.Parameter(values)
    if way == "marked" and dtype not in (torch.uint16, torch.uint32):
        # Torch cannot rebuild a subclass of those.
        return values.as_subclass(Marked)
    return values


@st.composite
def arrays(draw: Any) -> np.ndarray:
    shape = draw(shapes)
    dtype = draw(st.sampled_from(["?", "u1", "<i4", ">i4", "f2", "f8", "c16", "U3", "M8[s]", "x,y", "O"]))
    count = int(np.prod(shape))
    if dtype == "x,y":
        values = np.zeros(shape, [("x", "i4"), ("y", "f8", (2,))])
        values["x"] = np.arange(count).reshape(shape)
    else:
        values = (np.arange(count) % 100).reshape(shape).astype(dtype)
    way = draw(st.sampled_from(["as is", "fortran", "sliced", "read-only"]))
    if way == "fortran":
        values = np.asfortranarray(values)
    if way == "sliced" and values.ndim:
        values = values[..., ::-1]
    if way == "read-only":
        values.flags.writeable = False
    return values


leaves = st.one_of(
    tensors(),
    arrays(),
    st.none(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(max_size=5),
    st.sampled_from([b"x" * 100_000, "é" * 50_000, bytearray(b"y" * 5000), np.float32(1.5), torch.Size([1, 2])]),
)
values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(st.text(max_size=3), inner, max_size=4),
        st.tuples(inner, inner).map(lambda pair: Point(*pair)),
        inner.map(lambda value: Record("r", value)),
        # One object, and one memory, twice.
        inner.map(lambda value: [value, value]),
        tensors().map(lambda tensor: [tensor, tensor.detach().view_as(tensor), tensor.detach().reshape(-1)]),
    ),
    max_leaves=8,
)


def assert_same(got: Any, sent: Any) -> None:
    assert type(got) is type(sent)
    if isinstance(sent, Tensor):
        for what in ("dtype", "shape", "requires_grad", "is_leaf", "layout"):
            assert getattr(got, what) == getattr(sent, what)
        if type(sent) is not Marked and sent.numel():
            # The stride of an axis of one element says nothing.
            steps = [
                [step for step, extent in zip(t.stride(), t.shape, strict=True) if extent > 1] for t in (got, sent)
            ]
            assert steps[0] == steps[1]
        assert torch.equal(got.detach(), sent.detach())
    elif isinstance(sent, np.ndarray):
        torchs = pickle.loads(ForkingPickler.dumps(sent))
        for what in ("dtype", "shape", "flags.writeable", "flags.f_contiguous", "flags.c_contiguous"):
            assert attrgetter(what)(got) == attrgetter(what)(torchs), what
        assert repr(got.tolist()) == repr(sent.tolist())
    elif isinstance(sent, dict):
        assert list(got) == list(sent)
        for key in sent:
            assert_same(got[key], sent[key])
    elif isinstance(sent, (list, tuple)):
        assert len(got) == len(sent)
        for mine, theirs in zip(got, sent, strict=True):
            assert_same(mine, theirs)
    elif isinstance(sent, Record):
        assert_same(got.value, sent.value)
    else:
        assert got == sent


def parts(value: Any) -> list[Any]:
    """Tensors in it, in their order."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Record):
        return parts(value.value)
    if isinstance(value, dict):
        value = list(value.values())
    return [part for item in value for part in parts(item)] if isinstance(value, (list, tuple)) else []


def sharing(value: Any) -> list[tuple[int, int]]:
    """Which tensors overlap which."""
    places = [(part.data_ptr(), part.untyped_storage().data_ptr()) for part in parts(value) if part.numel()]
    return [(i, j) for i in range(len(places)) for j in range(i) if places[i][1] == places[j][1]]


class Ends:
    """Both ends of an arena, in one process."""

    def __init__(self) -> None:
        self.file = _engine.create_arena()
        self.encoder = Encoder(_engine.ArenaWriter(self.file))
        self.decoder = Decoder(_engine.ArenaReader(self.file))
        os.close(self.file)


@pytest.fixture(scope="module")
def ends() -> Ends:
    return Ends()


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(values)
def test_any_structure_in_one_process(ends: Ends, value: Any) -> None:
    number, got = ends.decoder.decode(ends.encoder.encode(7, value))
    assert number == 7
    assert_same(got, value)
    assert sharing(got) == sharing(value)


def test_any_structure_from_a_worker() -> None:
    """Across a fork, many at a time: the worker draws the same values as the main process."""
    drawn: list[Any] = []

    @settings(max_examples=150, deadline=None, derandomize=True, database=None)
    @given(values)
    def draw(value: Any) -> None:
        drawn.append(value)

    draw()
    loader = DataLoader(Call(drawn.__getitem__, len(drawn)), batch_size=None, num_workers=2, collate_fn=identity)
    for got, sent in zip(loader, drawn, strict=True):
        assert_same(got, sent)
        assert sharing(got) == sharing(sent)


def test_what_shares_memory_in_part_shares_it_at_the_other_side() -> None:
    """Views that can lie in an arena beside views and gradients that cannot."""
    base = torch.arange(10.0)
    sample = {"base": base, "strided": base[::2], "leaf": base.detach().requires_grad_(), "alone": torch.ones(3)}
    for loader_class in (torch.utils.data.DataLoader, DataLoader):
        (got,) = loader_class(Call(lambda _: sample, 1), batch_size=None, num_workers=1, collate_fn=identity)
        got["base"][0] = 9
        assert got["strided"][0] == 9
        assert got["leaf"][0] == 9


def test_views_do_not_use_up_the_worker_s_descriptors() -> None:
    def sample(index: int) -> Any:
        base = torch.full((50,), float(index))
        return [base, base[::2], base.view(5, 10), len(os.listdir("/proc/self/fd"))]

    loader = DataLoader(Call(sample, 200), batch_size=None, num_workers=1, collate_fn=identity)
    counts = [batch[-1] for batch in loader]
    # Some wait for the main process to take them; what is never taken would be one and more per batch.
    assert counts[-1] <= counts[20] + 100


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_a_nested_tensor() -> None:
    nested = torch.nested.nested_tensor([torch.ones(2), torch.zeros(3)])
    loader = DataLoader(Call(lambda _: nested, 1), batch_size=None, num_workers=1, collate_fn=identity)
    (got,) = loader
    assert [part.tolist() for part in got.unbind()] == [[1, 1], [0, 0, 0]]


def test_arrays_that_are_read_only_arrive_as_from_torch(tmp_path: Path) -> None:
    np.arange(20_000).tofile(tmp_path / "numbers")
    frozen = np.arange(3)
    frozen.flags.writeable = False

    def sample(_: int) -> Any:
        file = np.memmap(tmp_path / "numbers", dtype=np.int64, mode="r")
        return [frozen, np.asarray(file), np.asarray(file[5:10]), file[:10]]

    batches = []
    for loader_class in (torch.utils.data.DataLoader, DataLoader):
        (batch,) = loader_class(Call(sample, 1), batch_size=None, num_workers=1, collate_fn=identity)
        batches.append([(type(a), a.dtype, a.tolist(), a.flags.writeable) for a in batch])
    assert batches[0] == batches[1]


def test_a_message_outlives_its_writer_and_its_arena() -> None:
    ends = Ends()
    value = [torch.arange(1000), "x", torch.ones(300_000)]
    _, got = ends.decoder.decode(ends.encoder.encode(0, value))
    del ends
    assert_same(got, value)

    def look() -> None:
        assert_same(got, value)

    assert status_of(in_a_child(look)) == 0


@pytest.mark.parametrize("length", [0, 1, 7, 40])
def test_descriptors_that_are_cut_off_are_an_error(length: int) -> None:
    ends = Ends()
    ends.encoder.encode(0, torch.ones(3, 4))
    arena = ends.encoder._arena
    assert arena is not None
    arena_put(arena.id, [torch.ones(3, 4)])
    content = arena.descriptors()
    assert len(content) == 48
    reader = ends.decoder._arena
    assert reader is not None
    if length == 0:
        reader.load(b"")
        return
    with pytest.raises(RuntimeError, match="cannot be read"):
        reader.load(content[:length])
