"""A whole epoch inside one `jit`: a small GPT whose program asks for its batches itself.

    python -m examples.jax_scan

The losses are those of a loop in Python, bit for bit, also where the program is killed in the midst of the epoch and goes on from
the token of its last checkpoint.
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import zenith
import zenith_jax

VOCABULARY, LENGTH, WIDTH, HEADS, LAYERS, BATCH = 96, 32, 32, 2, 2, 16
STEPS, SAVED_EVERY, KILLED_AFTER = 60, 10, 30
OPTIMIZER = optax.adamw(1e-2)


def write(path: Path) -> None:
    """A corpus in which a token leaves its successor three choices."""
    random = np.random.default_rng(0)
    tokens = np.zeros(STEPS * BATCH * LENGTH + 1, np.uint16)
    noise = random.integers(0, 3, len(tokens))
    for place in range(1, len(tokens)):
        tokens[place] = (5 * tokens[place - 1] + noise[place]) % VOCABULARY
    tokens.tofile(path)


def initial() -> Any:
    """Weights of a decoder with pre-norm blocks, and the moments of its optimiser."""
    keys = iter(jax.random.split(jax.random.key(0), 2 + 4 * LAYERS))

    def matrix(*shape: int) -> jax.Array:
        return jax.random.normal(next(keys), shape) * shape[0] ** -0.5

    blocks = [
        {
            "attend": matrix(WIDTH, 3 * WIDTH),
            "mix": matrix(WIDTH, WIDTH),
            "up": matrix(WIDTH, 4 * WIDTH),
            "down": matrix(4 * WIDTH, WIDTH),
        }
        for _ in range(LAYERS)
    ]
    weights = {"tokens": matrix(VOCABULARY, WIDTH), "places": 0.1 * matrix(LENGTH, WIDTH), "blocks": blocks}
    return weights, OPTIMIZER.init(weights)


def logits(weights: Any, tokens: jax.Array) -> jax.Array:
    """Of the next token at every place."""

    def normal(x: jax.Array) -> jax.Array:
        return jax.nn.standardize(x, axis=-1)

    x = weights["tokens"][tokens] + weights["places"]
    for block in weights["blocks"]:
        query, key, value = jnp.split((normal(x) @ block["attend"]).reshape(*x.shape[:2], HEADS, -1), 3, axis=-1)
        attended = jax.nn.dot_product_attention(query, key, value, is_causal=True)
        x = x + attended.reshape(x.shape) @ block["mix"]
        x = x + jax.nn.gelu(normal(x) @ block["up"]) @ block["down"]
    return normal(x) @ weights["tokens"].T


def update(state: Any, x: jax.Array, y: jax.Array) -> tuple[Any, jax.Array]:
    """One step of training."""

    def loss_of(weights: Any) -> jax.Array:
        return optax.softmax_cross_entropy_with_integer_labels(logits(weights, x), y).mean()

    weights, moments = state
    loss, slopes = jax.value_and_grad(loss_of)(weights)
    updates, moments = OPTIMIZER.update(slopes, moments, weights)
    return (optax.apply_updates(weights, updates), moments), loss


def loader(path: Path) -> zenith_jax.DataLoader:
    """The corpus in windows, shuffled."""
    dataset = zenith.Tokens(path, dtype="uint16", seq_len=LENGTH)
    return zenith_jax.DataLoader(dataset, BATCH, shuffle=True, seed=1, drop_last=True, num_workers=1)


def loop(path: Path) -> list[float]:
    """The losses of an epoch, a call for each batch."""
    state, losses = initial(), []
    step = jax.jit(update)
    for batch in loader(path):
        state, loss = step(state, batch["x"], batch["y"])
        losses.append(float(loss))
    return losses


def scanned(path: Path, checkpoint: Path | None = None, killed_after: int | None = None) -> list[float]:
    """The losses of an epoch whose program asks for batches itself, from the checkpoint on if there is one.

    With a checkpoint the epoch is cut into programs of `SAVED_EVERY` steps; after `killed_after` steps the process kills itself.
    """
    feeding = loader(path)
    state, losses = initial(), []
    if checkpoint is not None and checkpoint.exists():
        state, losses, place = pickle.loads(checkpoint.read_bytes())  # Our own file.
        feeding.load_state_dict(place)
    with feeding.feed() as feed:

        @partial(jax.jit, static_argnums=1)
        def train(carry: Any, steps: int) -> Any:
            def step(carry: Any, _: None) -> Any:
                state, token = carry
                served = zenith_jax.next_batch(feed, token)
                state, loss = update(state, served.batch["x"], served.batch["y"])
                return (state, served.token), loss

            return jax.lax.scan(step, carry, length=steps)

        carry, left = (state, feed.token), len(feed)
        while left > 0:
            steps = left if checkpoint is None else min(SAVED_EVERY, left)
            carry, found = train(carry, steps)
            losses += [float(loss) for loss in found]
            left -= steps
            if checkpoint is not None:
                state, token = jax.device_get(carry)
                aside = checkpoint.with_suffix(".new")
                aside.write_bytes(pickle.dumps((state, losses, feed.state_dict(token))))
                aside.rename(checkpoint)
            if killed_after is not None and len(losses) >= killed_after:
                os.kill(os.getpid(), signal.SIGKILL)
    return losses


def main() -> None:
    """Trains three times: in a loop, in one program, and in programs of which one is killed."""
    with tempfile.TemporaryDirectory() as folder:
        path, checkpoint = Path(folder, "corpus.bin"), Path(folder, "checkpoint")
        write(path)
        in_loop, in_program = loop(path), scanned(path)
        child = [sys.executable, "-m", "examples.jax_scan", str(path), str(checkpoint)]
        killed = subprocess.run([*child, str(KILLED_AFTER)], check=False)
        resumed = json.loads(subprocess.run(child, check=True, capture_output=True, text=True).stdout)
    print(
        f"{len(in_loop)} steps of {BATCH} × {LENGTH} tokens; loss {in_loop[0]:.3f} at first, {in_loop[-1]:.3f} at last"
    )
    print(f"one program for the epoch: {'the same losses' if in_program == in_loop else 'OTHER LOSSES'}, bit for bit")
    print(
        f"killed by signal {-killed.returncode} after {KILLED_AFTER} steps and resumed from the token: "
        f"{'the same losses' if resumed == in_loop else 'OTHER LOSSES'}, bit for bit"
    )
    if not in_loop == in_program == resumed:
        sys.exit(1)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        after = int(sys.argv[3]) if len(sys.argv) > 3 else None
        print(json.dumps(scanned(Path(sys.argv[1]), Path(sys.argv[2]), after)))
    else:
        main()
