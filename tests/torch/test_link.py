"""The link itself: the op reaches the engine, tensors alias its memory, leases come back, errors keep their kind."""

import gc
import os
import pickle
import subprocess
import sys
import threading
import time

import pytest
import torch
import zenith
import zenith_torch
from zenith import _engine, errors
from zenith_torch import _ops

DTYPES = {
    "bool": torch.bool,
    "uint8": torch.uint8,
    "int8": torch.int8,
    "uint16": torch.uint16,
    "int16": torch.int16,
    "uint32": torch.uint32,
    "int32": torch.int32,
    "uint64": torch.uint64,
    "int64": torch.int64,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
    "float64": torch.float64,
}


def raw(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().view(torch.uint8).numpy().tobytes()


def source(script: str = "b", fields: int = 1, **arguments: int) -> _engine._TestSource:
    content = raw(torch.arange(12, dtype=torch.float32))
    return _engine._test_source([("float32", [3], content)] * fields, 4, script, **arguments)


class TestTensors:
    @pytest.mark.parametrize("name", DTYPES)
    def test_every_dtype_arrives_with_its_values(self, name: str) -> None:
        expected = torch.arange(24).reshape(4, 3, 2).to(DTYPES[name])
        opened = _engine._test_source([(name, [3, 2], raw(expected))], 4)
        (field,), status = _ops.next_batch(opened.id, 0)
        assert status == _ops.BATCH
        assert field.dtype is DTYPES[name]
        assert field.device.type == "cpu"
        assert field.stride() == (6, 2, 1)
        assert torch.equal(field, expected)

    @pytest.mark.parametrize(("shape", "rows"), [([], 5), ([1], 1), ([2, 3, 4, 5], 2), ([3], 0), ([0, 2], 4)])
    def test_shapes(self, shape: list[int], rows: int) -> None:
        expected = torch.rand([rows, *shape], dtype=torch.float64)
        opened = _engine._test_source([("float64", shape, raw(expected))], rows)
        (field,), _ = _ops.next_batch(opened.id, 0)
        assert field.shape == expected.shape
        assert field.is_contiguous()
        assert torch.equal(field, expected)
        del field
        assert opened.released == 1

    def test_tensors_alias_the_slabs_and_are_writable(self) -> None:
        opened = source(fields=2)
        fields, _ = _ops.next_batch(opened.id, 0)
        assert [field.data_ptr() for field in fields] == opened.pointers
        fields[0].add_(1)
        assert fields[0][0].tolist() == [1, 2, 3]
        assert fields[1][0].tolist() == [0, 1, 2]
        assert not fields[0].requires_grad

    def test_a_slab_of_the_wrong_size_is_refused(self) -> None:
        opened = _engine._test_source([("int64", [3], b"\0" * 8)], 4)
        with pytest.raises(errors.InternalError, match="a slab of 8 bytes cannot hold"):
            _ops.next_batch(opened.id, 0)
        assert opened.released == opened.leased

    def test_it_works_in_inference_mode(self) -> None:
        opened = source()
        with torch.inference_mode():
            (field,), _ = _ops.next_batch(opened.id, 0)
        assert field.sum().item() == 66


class TestLeases:
    """TA-5: released exactly once, after the last view died."""

    def test_the_last_view_releases(self) -> None:
        opened = source()
        (field,), _ = _ops.next_batch(opened.id, 0)
        view = field[1:].transpose(0, 1)
        del field
        assert (opened.leased, opened.released) == (1, 0)
        assert view[0].tolist() == [3, 6, 9]
        del view
        assert opened.released == 1
        gc.collect()
        assert opened.released == 1

    def test_each_field_has_its_own_lease(self) -> None:
        opened = source(fields=3)
        fields, _ = _ops.next_batch(opened.id, 0)
        kept = fields.pop(1)
        del fields
        assert (opened.leased, opened.released) == (3, 2)
        del kept
        assert opened.released == 3

    def test_a_lease_outlives_its_loader(self) -> None:
        opened = source()
        (field,), _ = _ops.next_batch(opened.id, 0)
        opened.close()
        gc.collect()
        assert field.sum().item() == 66
        assert opened.released == 0
        del field
        assert opened.released == 1

    def test_other_threads_may_release(self) -> None:
        opened = source("b" * 100)
        batches = [_ops.next_batch(opened.id, 0)[0] for _ in range(100)]
        threads = [threading.Thread(target=batches.__delitem__, args=(slice(-25, None),)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (opened.leased, opened.released) == (100, 100)


class TestStatus:
    def test_pending_then_batch_then_end(self) -> None:
        opened = source("pb")
        assert _ops.next_batch(opened.id, 0) == ([], _ops.PENDING)
        assert _ops.next_batch(opened.id, 0)[1] == _ops.BATCH
        assert _ops.next_batch(opened.id, 0) == ([], _ops.END)
        assert _ops.next_batch(opened.id, 0) == ([], _ops.END)

    @pytest.mark.parametrize("wait_ms", [-1, 2**40])
    def test_a_wait_out_of_range_is_clamped(self, wait_ms: int) -> None:
        opened = source()
        assert _ops.next_batch(opened.id, wait_ms)[1] == _ops.BATCH


class TestErrors:
    @pytest.mark.parametrize("number", errors.KINDS)
    def test_every_kind_arrives_as_its_class_with_its_place(self, number: int) -> None:
        opened = source("e", kind=number)
        with pytest.raises(errors.KINDS[number]) as caught:
            _ops.next_batch(opened.id, 0)
        error = caught.value
        assert type(error) is errors.KINDS[number]
        assert str(error) == 'scripted.bin, byte 4096, block 3, row 77, field "x": this error was asked for'
        assert (error.file, error.offset, error.block, error.row, error.field) == ("scripted.bin", 4096, 3, 77, "x")
        copy = pickle.loads(pickle.dumps(error))
        assert type(copy) is type(error)
        assert (str(copy), vars(copy)) == (str(error), vars(error))

    @pytest.mark.parametrize(
        ("kind", "builtin"),
        [
            (zenith.InvalidArgumentError, ValueError),
            (zenith.NotFoundError, FileNotFoundError),
            (zenith.ReadError, OSError),
            (zenith.BudgetError, MemoryError),
        ],
    )
    def test_kinds_are_also_what_python_calls_them(self, kind: type[Exception], builtin: type[Exception]) -> None:
        assert issubclass(kind, builtin)
        assert issubclass(kind, zenith.ZenithError)
        assert issubclass(kind, RuntimeError)

    @pytest.mark.parametrize("wrong", [0, -1, 10**15, -(2**63)])
    def test_a_wrong_id_is_an_error(self, wrong: int) -> None:
        with pytest.raises(zenith.InvalidArgumentError, match=f"no open loader with id {wrong}:"):
            _ops.next_batch(wrong, 0)

    def test_a_closed_id_is_an_error_and_is_not_used_again(self) -> None:
        opened = source()
        stale = opened.id
        opened.close()
        assert source().id != stale
        with pytest.raises(zenith.InvalidArgumentError, match="closed or never opened"):
            _ops.next_batch(stale, 0)

    def test_a_panic_is_an_error_and_the_loader_lives_on(self) -> None:
        opened = source("!b")
        with pytest.raises(zenith.InternalError, match=r"panicked in next_batch: this panic was asked for\."):
            _ops.next_batch(opened.id, 0)
        assert _ops.next_batch(opened.id, 0)[1] == _ops.BATCH

    def test_errors_belong_to_the_thread_that_met_them(self) -> None:
        barrier = threading.Barrier(2)
        caught: dict[int, str] = {}

        def meet(number: int) -> None:
            opened = source("e", kind=number)
            _, status = torch.ops.zenith.next_batch(opened.id, 0)
            barrier.wait()
            caught[number] = f"{status} {type(_engine.take_error()).__name__}"

        threads = [threading.Thread(target=meet, args=(number,)) for number in (2, 6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert caught == {2: "3 NotFoundError", 6: "3 BudgetError"}

    def test_take_error_without_an_error_says_so(self) -> None:
        assert isinstance(_engine.take_error(), zenith.InternalError)


class TestImports:
    def run(self, code: str) -> subprocess.CompletedProcess[str]:
        folder = os.path.dirname(os.path.dirname(zenith.__file__))
        environment = {**os.environ, "PYTHONPATH": folder}
        return subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
        )

    def test_zenith_does_not_import_torch(self) -> None:
        done = self.run("import zenith, sys; assert 'torch' not in sys.modules")
        assert done.returncode == 0, done.stderr

    @pytest.mark.parametrize(
        ("before", "expected"),
        [
            ("sys.modules['torch'] = None; import zenith_torch", "zenith_torch needs PyTorch 2.11 or newer"),
            ("import torch; torch.__version__ = '2.10.1+cpu'; import zenith_torch", "this is 2.10.1+cpu. Upgrade"),
            ("sys.platform = 'win32'; import zenith", "zenith runs on 64-bit Linux"),
            ("sys.modules['zenith._engine'] = None; import zenith", "was not built"),
            ("sys.modules['zenith_torch._C'] = None; import zenith_torch", "installed where torch was not"),
        ],
    )
    def test_what_cannot_run_says_why(self, before: str, expected: str) -> None:
        done = self.run(f"import sys; {before}")
        assert done.returncode == 1
        assert f"ImportError: {expected}" in done.stderr or expected in done.stderr.splitlines()[-1]

    def test_the_floor_is_the_same_in_python_and_cpp(self) -> None:
        header = os.path.join(os.path.dirname(__file__), "../../cpp/torch/stable_abi.h")
        major, minor = _ops.TORCH_FLOOR
        with open(header) as lines:
            assert f"#define TORCH_TARGET_VERSION 0x{major:02x}{minor:02x}000000000000ULL" in lines.read()


def test_the_hand_over_is_cheap() -> None:
    """10 us for two tensors and 0.5 us for each further one, with room for a busy machine."""

    def fastest_us(fields: int) -> float:
        opened = _engine._test_source([("float32", [], b"\0" * 16)] * fields, 4, "b" * 4000)
        rounds = []
        for _ in range(20):
            start = time.perf_counter()
            for _ in range(200):
                _ops.next_batch(opened.id, 0)
            rounds.append((time.perf_counter() - start) / 200 * 1e6)
        return min(rounds)

    two, many = fastest_us(2), fastest_us(102)
    print(f"hand-over: {two:.1f} us for 2 tensors, {(many - two) / 100:.2f} us for each further one")
    assert two < 3 * 10
    assert (many - two) / 100 < 3 * 0.5


def test_packages_are_typed() -> None:
    for package in (zenith, zenith_torch):
        assert os.path.exists(os.path.join(os.path.dirname(package.__file__), "py.typed"))
