"""When the handlers are registered, and what is said where they cannot be; that they are called is in the other files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import zenith_jax
from jax import export
from zenith_jax import _ffi


def run(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, env=os.environ)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_starts_no_backend_and_loads_no_library() -> None:
    program = """
import zenith_jax, zenith_jax.images, zenith_jax.in_program, zenith_jax.feed, zenith_jax.tokens
from jax._src import xla_bridge
print(bool(xla_bridge._backends), "zenith_jax/_xla.so" in open("/proc/self/maps").read())
zenith_jax.register()
zenith_jax.register()
print(bool(xla_bridge._backends), "zenith_jax/_xla.so" in open("/proc/self/maps").read())
"""
    assert run(program).split() == ["False", "False", "True", "True"]


def test_a_program_that_was_exported_runs_after_register(tmp_path: Path) -> None:
    pytest.importorskip("flatbuffers")
    images = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
    normalize = jax.jit(lambda images: zenith_jax.normalize(images, 0.5, 0.25))
    allowed = [export.DisabledSafetyCheck.custom_call("zenith_normalize")]
    (tmp_path / "program").write_bytes(export.export(normalize, disabled_checks=allowed)(images).serialize())
    found = run(f"""
import numpy as np, zenith_jax
from jax import export
zenith_jax.register()
program = export.deserialize(open({str(tmp_path / "program")!r}, "rb").read())
images = np.arange(96, dtype=np.uint8).reshape(2, 4, 4, 3)
print(float(np.asarray(program.call(images), np.float64).sum()))
""")
    assert float(found) == float(np.asarray(normalize(images), np.float64).sum())


def test_a_jaxlib_that_refuses_is_named_with_the_range(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("the handler's API version (0.3) is incompatible")

    monkeypatch.setattr(_ffi, "_loaded", None)
    monkeypatch.setattr(jax.ffi, "register_ffi_target", refuse)
    with pytest.raises(ImportError, match=r"does not take Zenith's handlers, which are for jaxlib 0\.9\.1 and newer"):
        zenith_jax.register()


def test_a_build_without_the_library_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_ffi, "_loaded", None)
    monkeypatch.setattr(_ffi, "_LIBRARY", Path("/nowhere/_xla.so"))
    with pytest.raises(ImportError, match="ZENITH_BUILD_JAX=1"):
        zenith_jax.register()
