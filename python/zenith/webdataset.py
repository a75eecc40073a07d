"""Samples in tar shards: the datasets of the WebDataset library."""

from __future__ import annotations

import operator
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from zenith.datasets import Dataset, PathLike, _paths
from zenith.pictures import described, indexed, is_transforms

_DECODERS: dict[Any, str] = {
    int: "int",
    float: "float",
    str: "text",
    bytes: "bytes",
    dict: "json",
    np.ndarray: "npy",
    **{name: name for name in ("int", "float", "text", "json", "bytes", "npy")},
}


class WebDataset(Dataset):
    """Samples in tar shards: members whose names are the same up to the first dot of their last component.

    ``train/0017.seg.png`` has the key ``train/0017`` and the extension ``seg.png``, whose case does not matter. Members of a
    sample stand side by side. Directories, links and devices are passed over, as is all that is named ``__x__``. Names are
    names and nothing else: no file is opened by them.

    Opening passes over the headers of each shard once; what it found is kept under the user's cache directory
    (``ZENITH_CACHE_DIR`` chooses another) until the shard changes. ``python -m zenith.index`` does it ahead.

    Args:
        paths: a file, a directory (hidden files are skipped), a glob (bytewise sorted), shards in braces such as
            ``"train-{000..146}.tar"``, or a list of them.
        fields: what is delivered: by extension ``int`` (int64), ``float`` (float64), ``str``, ``bytes``, ``dict`` (JSON),
            ``numpy.ndarray`` (``.npy``, of one shape and type in all samples; ``"npy"`` says the same), or transforms for
            pictures (a list is composed). ``"jpg;jpeg;png"`` takes the first that a sample has; ``{"image": ("jpg;png",
            bytes)}`` gives a field another name; ``{"__key__": str}`` is the key. Default: every member of the first
            sample, as its extension asks for.
        seed: seed of the transforms that draw; `set_epoch` has them draw anew.
        duplicate: ``"error"``, or which one counts (``"first"``, ``"last"``) where a member or a key stands in a shard
            twice.
        missing: ``"error"``, or ``"skip"``: samples that lack a member are left out, with a warning.
        truncated: ``"error"``, or ``"skip"``: of shards that were cut short the samples before the cut are read, with a
            warning.
        entropy_index: find out once where in each JPEG decoding can begin, so that crops, and ``decode="fast"`` of large
            pictures, skip most of the rest. Opening reads every picture for that, with a progress bar; what it finds (two
            hundredths of the files, nine with ``"fast"``) is kept beside the other indexes until a file changes. Samples stay
            as they are.

    Warns:
        UserWarning: no end marker stands in a shard, or more behind it; samples were left out.

    Raises:
        zenith.NotFoundError: no file, or no sample.
        zenith.CorruptError: what is no tar archive, or a value that is not what was asked for, naming shard and byte.
        zenith.UnsupportedError: ``pipe:`` and other addresses, compressed shards, sparse files, pickles that were not asked
            for as bytes.
        zenith.InvalidArgumentError: samples that lack a member, and duplicates.
    """

    def __init__(
        self,
        paths: PathLike | Sequence[PathLike],
        fields: Mapping[str, Any] | None = None,
        *,
        seed: int = 0,
        duplicate: str = "error",
        missing: str = "error",
        truncated: str = "error",
        entropy_index: bool = False,
    ) -> None:
        options = {
            "fields": None if fields is None else [_field(name, given) for name, given in fields.items()],
            "seed": operator.index(seed) % 2**64,
            "duplicate": _one_of("duplicate", duplicate, ("error", "first", "last")),
            "missing": _one_of("missing", missing, ("error", "skip")),
            "truncated": _one_of("truncated", truncated, ("error", "skip")),
        }
        shards = [shard for path in _paths(paths) for shard in _braces(path)]
        spec = {"format": "WebDataset", "paths": shards, "options": options}
        super().__init__(indexed(spec, entropy_index))


def _one_of(option: str, value: str, values: tuple[str, ...]) -> str:
    if value not in values:
        raise ValueError(f"{option} must be one of {', '.join(map(repr, values))}, got {value!r}")
    return value


def _field(name: str, given: Any) -> dict[str, Any]:
    """A field as the engine reads it."""
    members, decoder = name, given
    if isinstance(given, tuple) and len(given) == 2 and isinstance(given[0], str):
        members, decoder = given
    if isinstance(decoder, (type, str)) and decoder in _DECODERS:
        decode: Any = _DECODERS[decoder]
    elif is_transforms(decoder):
        decode = {"image": described(decoder)}
    else:
        raise TypeError(
            f"fields[{name!r}] must be int, float, str, bytes, dict, numpy.ndarray or transforms of zenith.transforms, "
            f"got {decoder!r}"
        )
    return {"name": name, "members": members.split(";"), "decode": decode}


def _braces(path: str) -> list[str]:
    """The paths that ``{000..146}`` and ``{a,b}`` stand for, as shells expand them."""
    found = re.search(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}", path)
    if found is None or os.path.exists(path):
        return [path]
    first, last, listed = found.groups()
    if listed is None:
        width = max(len(first), len(last)) if "0" in (first[:1], last[:1]) else 0
        step = 1 if int(first) <= int(last) else -1
        parts = [f"{number:0{width}}" for number in range(int(first), int(last) + step, step)]
    else:
        parts = listed.split(",")
    before, after = path[: found.start()], path[found.end() :]
    return [before + part + rest for part in parts for rest in _braces(after)]
