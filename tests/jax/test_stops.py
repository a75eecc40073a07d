"""Ctrl-C and stuck devices while a program asks for batches, in processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

SECONDS_MAX = 150

COMMON = """
import os, signal, sys, time
# Where the tests run in the background of a shell, the signal is ignored from the start.
signal.signal(signal.SIGINT, signal.default_int_handler)
import jax, jax.numpy as jnp, numpy as np, zenith, zenith_jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
devices = jax.devices()
mesh = Mesh(np.array(devices), ("data",))
sharding = NamedSharding(mesh, PartitionSpec("data")) if len(devices) > 1 else None
tokens = zenith.Tokens(sys.argv[1], dtype="uint16", seq_len=8)
"""

LONG_SCAN = (
    COMMON
    + """
feed = zenith_jax.Feed(tokens, 8, sharding=sharding)

def step(carry, _):
    token, total = carry
    batch, _, token = zenith_jax.next_batch(feed, jnp.where(token[0] >= 60, jnp.array([57, 0], jnp.uint32), token))
    return (token, total + batch["x"].sum()), None

program = jax.jit(lambda token: jax.lax.scan(step, (token, 0), length=2**31 - 1)).lower(feed.token).compile()
for turn in range(2):
    feed.set_epoch(0)
    try:
        with feed if turn else jax.default_device(None):
            print("running", flush=True)
            # A small program for one device runs in the call itself.
            (token, _), _ = program(feed.token)
            token.block_until_ready()
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""
)

STUCK = (
    COMMON
    + """
feed = zenith_jax.Feed(tokens, 8, sharding=sharding, stall_timeout=1)
stuck = True

def wait(device):
    if device == 3 and stuck:
        time.sleep(4)
    return np.int32(device)

def here(token):
    device = jax.lax.axis_index("data").astype(jnp.int32)
    device = jax.pure_callback(wait, jax.ShapeDtypeStruct((), jnp.int32), device)
    return jax.lax.psum(zenith_jax.next_batch(feed, token, shard=device).batch["x"].sum(), "data")

program = jax.jit(jax.shard_map(here, mesh=mesh, in_specs=PartitionSpec(), out_specs=PartitionSpec(), check_vma=False))
try:
    program(feed.token).block_until_ready()
except Exception as error:
    print(error, flush=True)
time.sleep(4)
stuck = False
for _ in range(20):
    # Devices of a busy machine may be late too.
    try:
        print("sum", int(program(feed.token)), flush=True)
        break
    except Exception:
        time.sleep(0.5)
os._exit(0)
"""
)


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokens") / "tokens.bin"
    np.arange(8 * 600 + 1, dtype=np.uint16).tofile(path)
    return path


@contextmanager
def running(program: str, tokens: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that is killed in the end, or when it takes too long."""
    command = [sys.executable, "-c", program, str(tokens)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    ) as process:
        timer = threading.Timer(SECONDS_MAX, process.kill)
        timer.start()
        try:
            yield process
        finally:
            timer.cancel()
            process.kill()


def test_an_interrupt_ends_a_program_that_asks_for_batches(tokens: Path) -> None:
    with running(LONG_SCAN, tokens) as process:
        assert process.stdout is not None
        for _ in range(2):
            assert process.stdout.readline() == "running\n"
            time.sleep(0.5)
            process.send_signal(signal.SIGINT)
            # The scan itself would take hours.
            assert process.stdout.readline() == "interrupted\n"
        _, errors = process.communicate()
        assert process.returncode == 0, errors


def test_a_device_that_is_stuck_is_an_error_of_the_others(tokens: Path) -> None:
    import jax

    if len(jax.devices()) != 8:
        pytest.skip("needs eight devices")
    with running(STUCK, tokens) as process:
        output, errors = process.communicate()
    assert process.returncode == 0, errors
    assert "1 of 8 devices did not ask for batch 0 within 1 s" in output, output + errors
    assert output.splitlines()[-1] == f"sum {np.arange(64).sum()}", output + errors
