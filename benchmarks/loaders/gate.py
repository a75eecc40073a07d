"""The gate before any timing: a contender that delivers a wrong row, loses one or repeats one gets no figure."""

from __future__ import annotations

import itertools
import time
from typing import Any

import numpy as np

from benchmarks.loaders.contender import ROW_BATCH, SEQUENCE_LENGTH, TOKEN_BATCH, Contender, Feed, samples_of_epoch
from benchmarks.loaders.data import Files
from benchmarks.loaders.jax_tables import DEVICES as JAX_WORKS
from benchmarks.loaders.picture_gate import check_pictures
from benchmarks.loaders.pictures import WORKS as PICTURE_WORKS
from benchmarks.loaders.python_datasets import WORKS
from benchmarks.loaders.table import FEATURE_COUNT, features

RANDOM_BATCHES = 300
KEY_TOKENS = 4
"""Windows are found in the corpus by their first four tokens, which as one u64 are as good as unique."""
CONTENT_CHECK_EVERY = 8
"""At full size the contents of every eighth batch are computed again; the ids of all are counted. See `check`."""


class GateError(Exception):
    """What a contender delivered is not what the file holds."""


def check(contender: Contender, files: Files, epochs: int, budget_s: float) -> dict[str, Any]:
    """Checks `epochs` epochs. An epoch that the budget cuts must still be right as far as it came. Raises GateError."""
    feed = contender.open(files)
    if contender.work == "tokens":
        return check_windows(contender, feed, files)
    if contender.work in PICTURE_WORKS:
        return check_pictures(contender, feed, files, epochs)
    if contender.work in WORKS:
        return check_collated(contender, feed, files, epochs)
    orders: list[np.ndarray] = []
    deadline_s = time.perf_counter() + budget_s
    whole = True
    for epoch in range(epochs):
        ids, whole = check_rows(
            contender, feed, files, epoch, deadline_s, every=1 if epochs > 1 else CONTENT_CHECK_EVERY
        )
        orders.append(ids)
        if not whole:
            break
    in_order = [bool((np.diff(ids) > 0).all()) for ids in orders]
    if contender.order == "shuffled" and (any(in_order) or (len(orders) > 1 and np.array_equal(orders[0], orders[1]))):
        raise GateError(
            f"{contender.name} is said to shuffle, but an epoch was in file order or two epochs were the same"
        )
    return {"samples": int(sum(map(len, orders))), "epochs": len(orders), "whole": whole, "in_file_order": in_order}


def check_rows(
    contender: Contender, feed: Feed, files: Files, epoch: int, deadline_s: float, every: int
) -> tuple[np.ndarray, bool]:
    """One epoch: the ids (i64) in the order of delivery, and whether it was a whole one."""
    due = samples_of_epoch(contender, files)
    assert due is not None, f"{contender.name} reads no table"
    # Which rows are left out, where some fill no batch, is the shuffle's choice.
    expected = files.size.rows if contender.work in JAX_WORKS else due
    seen = np.zeros(expected, np.uint8)
    order: list[np.ndarray] = []
    whole = True
    for index, batch in enumerate(feed.epoch(epoch)):
        x, ids = to_arrays(contender, batch)
        if ids.min(initial=0) < 0 or ids.max(initial=0) >= expected:
            raise GateError(f"{contender.name}: batch {index} has a label that no row has: {ids.min()} to {ids.max()}")
        if index % every == 0 and not np.array_equal(x, features(ids)):
            raise GateError(f"{contender.name}: batch {index} has features that belong to other rows")
        np.add.at(seen, ids, 1)
        order.append(ids.copy())
        if time.perf_counter() > deadline_s:
            whole = False
            break
    if seen.max(initial=0) > 1:
        raise GateError(
            f"{contender.name}: {int((seen > 1).sum())} rows came more than once, the first is {int(seen.argmax())}"
        )
    if whole and (missing := due - int(seen.sum())):
        raise GateError(f"{contender.name}: {missing} rows never came, the first is {int(seen.argmin())}")
    return np.concatenate(order) if order else np.empty(0, np.int64), whole


def to_arrays(contender: Contender, batch: Any) -> tuple[np.ndarray, np.ndarray]:
    """A batch's features and labels, with the shapes and dtypes that every contender owes."""
    if contender.limit:
        from benchmarks.loaders.rows import to_rows

        return to_rows(batch)
    x, y = batch[0], batch[1]
    if contender.work in JAX_WORKS:
        devices = {len(array.sharding.device_set) for array in (x, y)}
        x, y = np.asarray(x), np.asarray(y)
        if (
            devices != {JAX_WORKS[contender.work]}
            or (x.dtype, y.dtype) != (np.float32, np.int32)
            or len(y) != ROW_BATCH
        ):
            raise GateError(
                f"{contender.name}: x is {x.dtype} {x.shape}, y is {y.dtype} {y.shape}, on {devices} devices"
            )
        return x, y.astype(np.int64)
    if not (str(x.dtype) == "torch.float32" and str(y.dtype) == "torch.int64" and x.shape == (len(y), FEATURE_COUNT)):
        raise GateError(f"{contender.name}: x is {x.dtype} {tuple(x.shape)}, y is {y.dtype} {tuple(y.shape)}")
    if len(y) > ROW_BATCH:
        raise GateError(f"{contender.name}: a batch of {len(y)} rows, more than {ROW_BATCH}")
    return x.contiguous().numpy(), y.contiguous().numpy()


def check_windows(contender: Contender, feed: Feed, files: Files) -> dict[str, Any]:
    """Finds every window in the file; the windows of one epoch must be each window once, random ones must differ."""
    corpus = np.fromfile(files.token_file, np.uint16)
    keys = sum(
        corpus[shift : len(corpus) - KEY_TOKENS + 1 + shift].astype(np.uint64) << np.uint64(16 * shift)
        for shift in range(4)
    )
    by_key = np.argsort(keys)
    sorted_keys = keys[by_key]
    starts: list[int] = []
    for index, batch in enumerate(feed.epoch(0)):
        x, y = batch[0], batch[1]
        if not (str(x.dtype) == str(y.dtype) == "torch.int64" and x.shape == y.shape and x.shape[1] == SEQUENCE_LENGTH):
            raise GateError(f"{contender.name}: x is {x.dtype} {tuple(x.shape)}, y is {y.dtype} {tuple(y.shape)}")
        if len(x) > TOKEN_BATCH:
            raise GateError(f"{contender.name}: a batch of {len(x)} windows, more than {TOKEN_BATCH}")
        for window, later in zip(x.numpy(), y.numpy(), strict=True):
            key = sum(np.uint64(token) << np.uint64(16 * shift) for shift, token in enumerate(window[:KEY_TOKENS]))
            place = int(np.searchsorted(sorted_keys, key))
            start = int(by_key[place]) if place < len(by_key) and sorted_keys[place] == key else -1
            expected = corpus[start : start + SEQUENCE_LENGTH + 1] if start >= 0 else corpus[:0]
            if not (np.array_equal(window, expected[:-1]) and np.array_equal(later, expected[1:])):
                raise GateError(
                    f"{contender.name}: batch {index} has a window that is nowhere in the file, or y is not one later"
                )
            starts.append(start)
        if contender.order == "random" and index >= RANDOM_BATCHES:
            break
    distinct = sorted(set(starts))
    every_window = list(range(0, len(corpus) - SEQUENCE_LENGTH, SEQUENCE_LENGTH))
    if contender.order == "random" and (
        len(distinct) < len(starts) * 0.8 or all(start % SEQUENCE_LENGTH == 0 for start in starts)
    ):
        raise GateError(
            f"{contender.name}: the random windows are not random: {len(distinct)} starts in {len(starts)} windows"
        )
    if contender.order != "random" and (len(starts) != len(distinct) or distinct != every_window):
        raise GateError(
            f"{contender.name}: {len(starts)} windows, {len(distinct)} of them distinct, of {len(every_window)}"
        )
    return {"samples": len(starts), "epochs": 1, "whole": True}


def check_collated(contender: Contender, feed: Feed, files: Files, epochs: int) -> dict[str, Any]:
    """Every batch of whole epochs against torch's default collation of the samples that belong to it.

    A batch is looked at once the next one has come, so that memory which a loader writes again too soon is noticed.
    """
    from torch.utils.data import default_collate

    work = WORKS[contender.work]
    length = work.samples(files)
    dataset = work.make(length)
    for epoch in range(epochs):
        start = 0
        for batch, _next in itertools.pairwise(itertools.chain(feed.epoch(epoch), [None])):
            end = min(start + work.batch_size, length)
            if start == end:
                raise GateError(f"{contender.name}: epoch {epoch} goes on after all of its {length} samples")
            if not same(batch, default_collate([dataset[index] for index in range(start, end)])):
                raise GateError(
                    f"{contender.name}: epoch {epoch} has a batch that is not the samples from {start} to {end - 1}, collated"
                )
            start = end
        if start != length:
            raise GateError(f"{contender.name}: epoch {epoch} ends after {start} of {length} samples")
    return {"samples": epochs * length, "epochs": epochs, "whole": True}


def same(batch: Any, expected: Any) -> bool:
    """Whether two batches are of the same containers, dtypes, shapes and values."""
    if type(batch) is not type(expected):
        return False
    if isinstance(expected, dict):
        return list(batch) == list(expected) and all(same(batch[key], expected[key]) for key in expected)
    if isinstance(expected, list):
        return len(batch) == len(expected) and all(map(same, batch, expected))
    return batch.dtype == expected.dtype and np.array_equal(batch.numpy(), expected.numpy())
