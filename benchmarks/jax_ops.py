"""zenith_jax's custom calls beside what they replace, in one run: ``python -m benchmarks.jax_ops``.

- ``normalize``: batch 128 of 224 x 224 x 3 from uint8, beside ``jax.numpy`` under jit and beside filling an output of that size.
- ``next_batch``: what a step of a scan takes, beside the same scan over a batch that is there already, and a copy of its bytes.

Rounds of the contenders alternate, and medians are compared, so that what else the machine does meets all of them alike.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import zenith
import zenith_jax

MEAN, STD = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
SHAPE = (128, 224, 224, 3)
BARS = {
    ("bfloat16", "NCHW"): ("jax.numpy", 2.0),
    ("float32", "NHWC"): ("fill", 0.85),
    ("float32", "NCHW"): ("fill", 0.85),
}
"""What is promised: so many times as fast as this peer."""


def medians(contenders: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Seconds of each, after a first round that compiles."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(rounds + 1):
        for name, run in contenders.items():
            start = time.perf_counter()
            result = jax.block_until_ready(run())
            if turn:
                seconds[name].append(time.perf_counter() - start)
            # Its memory goes before the next is timed.
            del result
    return {name: float(np.median(times)) for name, times in seconds.items()}


def normalize(rounds: int) -> None:
    """A batch of pictures as numbers."""
    images = jax.device_put(np.random.default_rng(0).integers(0, 256, SHAPE, dtype=np.uint8))
    print(f"normalize, {' x '.join(map(str, SHAPE))} of uint8 (ms)")
    for dtype in (jnp.float32, jnp.bfloat16):
        for layout in ("NHWC", "NCHW"):
            name = np.dtype(dtype).name

            def plain(images: jax.Array, dtype: Any = dtype, layout: str = layout) -> jax.Array:
                values = (images.astype(jnp.float32) * (1 / 255) - MEAN) / STD
                return (values if layout == "NHWC" else values.transpose(0, 3, 1, 2)).astype(dtype)

            def ours(images: jax.Array, dtype: Any = dtype, layout: str = layout) -> jax.Array:
                return zenith_jax.normalize(images, MEAN, STD, dtype, layout=layout)

            def fill(value: jax.Array) -> jax.Array:
                return jnp.full(SHAPE, value)

            by_zenith, by_numpy, filled = jax.jit(ours), jax.jit(plain), jax.jit(fill)
            value = jnp.asarray(0.5, dtype)
            found = medians(
                {
                    "zenith_jax": lambda run=by_zenith: run(images),
                    "jax.numpy": lambda run=by_numpy: run(images),
                    "fill": lambda run=filled, value=value: run(value),
                },
                rounds,
            )
            ratios = {peer: found[peer] / found["zenith_jax"] for peer in ("jax.numpy", "fill")}
            peer, bar = BARS.get((name, layout), ("", 0.0))
            verdict = f"  {'met' if ratios[peer] >= bar else 'MISSED'}: >= {bar} x {peer}" if peer else ""
            times = ", ".join(f"{name} {1000 * seconds:.1f}" for name, seconds in found.items())
            print(
                f"  {name} {layout}: {times}; {ratios['jax.numpy']:.2f} x jax.numpy, {ratios['fill']:.2f} x fill{verdict}"
            )


def next_batch(rounds: int) -> None:
    """A step of a scan that asks for its batch."""
    steps, batch, length = 200, 32, 1024
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokens.bin"
        np.random.default_rng(0).integers(0, 50_000, steps * batch * length + 1, dtype=np.uint16).tofile(path)
        # Ready batches are what is timed: all of them fit the window.
        tokens = zenith.Tokens(str(path), dtype="uint16", seq_len=length)
        feed = zenith_jax.Feed(tokens, batch, prefetch_bytes=1 << 30, window=2 * steps)
        asked = np.zeros((batch, length), np.int32)

        def served(carry: Any, _: None) -> Any:
            found, _, token = zenith_jax.next_batch(feed, carry[0])
            return (token, carry[1] + found["x"][0, 0] + found["y"][0, 0]), None

        def there(carry: Any, batch: jax.Array) -> Any:
            return (carry[0] + jnp.uint32(1), carry[1] + batch[0, 0]), None

        scan = jax.jit(lambda token: jax.lax.scan(served, (token, 0), length=steps))
        empty = jax.jit(lambda token: jax.lax.scan(there, (token, 0), jnp.zeros((steps, 1, 1), jnp.int32)))

        def copies() -> None:
            for _ in range(2 * steps):
                asked.copy()

        first = medians({"first": lambda: scan(feed.token)}, 1)["first"]
        found = medians(
            {"next_batch": lambda: scan(feed.token), "empty": lambda: empty(feed.token), "copy": copies},
            rounds,
        )
    step = {name: 1e6 * seconds / steps for name, seconds in found.items()}
    over = step["next_batch"] - step["empty"] - step["copy"]
    megabytes = 2 * asked.nbytes / 2**20
    print(f"next_batch in scan, two fields, {megabytes:.2f} MiB a step (us a step)")
    print(
        f"  served {step['next_batch']:.1f}, without it {step['empty']:.1f}, copy of as many bytes {step['copy']:.1f}"
    )
    print(
        f"  over the copy {over:.1f}  {'met' if over <= 25 else 'MISSED'}: <= 25; with decoding {1e6 * first / steps:.0f}"
    )


def main() -> None:
    """Prints the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    print(f"jax {jax.__version__}, {len(jax.devices())} device(s), medians of {arguments.rounds} rounds")
    normalize(arguments.rounds)
    next_batch(arguments.rounds)


if __name__ == "__main__":
    main()
