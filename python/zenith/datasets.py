"""Datasets: framework-neutral, defined in the engine, and each an ordinary map-style dataset.

``len(ds)``, ``ds[i]`` and ``ds.__getitems__([...])`` work anywhere; loaders that know Zenith iterate natively and deliver
exactly what ``ds[i]`` would.
"""

from __future__ import annotations

import json
import operator
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from zenith import _platform as _platform  # isort: split

from zenith import _engine
from zenith.errors import DatasetChangedError
from zenith.filters import Filters, conditions
from zenith.pictures import described, is_transforms
from zenith.values import field_values, rows_of

PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class FieldInfo:
    """One field of a sample: how it is delivered, its element type and the shape of one sample."""

    name: str
    kind: str
    """``dense`` (an array), ``ragged`` or ``jagged`` (a 1-D array of varying length), ``text``, ``binary`` or ``json``
    (objects)."""
    dtype: str | None
    shape: tuple[int, ...] | None
    unit: str | None = None
    """Unit of dates and times, such as ``timestamp[us, UTC]``."""


class Dataset:
    """Base of the datasets of the engine; a map-style dataset of dicts ``{field: numpy value}``.

    Pickles as its description, so that a worker process opens the files itself; a changed file is then an error
    (`zenith.DatasetChangedError`).
    """

    _spec: dict[str, Any]

    def __init__(self, spec: dict[str, Any]) -> None:
        self._adopt(spec, _engine.Dataset(json.dumps(spec)), 0)
        for notice in self._engine.notices:
            warnings.warn(notice, stacklevel=3)

    def _adopt(self, spec: dict[str, Any], engine: _engine.Dataset, epoch: int) -> None:
        self._spec = spec
        self._epoch = epoch
        self._engine = engine
        self._schema = tuple(
            FieldInfo(f["name"], f["kind"], f["dtype"], None if f["shape"] is None else tuple(f["shape"]), f["unit"])
            for f in json.loads(self._engine.schema)
        )

    @property
    def schema(self) -> tuple[FieldInfo, ...]:
        """The fields of a sample, in the order in which they are delivered."""
        return self._schema

    @property
    def fingerprint(self) -> str:
        """Identity of the content and of the options: 32 hexadecimal digits."""
        return self._engine.fingerprint

    @property
    def files(self) -> list[str]:
        """Absolute paths of the files, in the order of their samples."""
        return self._engine.files

    def set_epoch(self, epoch: int) -> None:
        """Moves to ``epoch``: samples that are drawn at random (token windows) are drawn anew."""
        self._epoch = epoch
        self._engine = self._engine.at_epoch(epoch)

    def __len__(self) -> int:
        return len(self._engine)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Sample ``index`` as a dict; dense fields are numpy arrays of their own (scalars are 0-d)."""
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """The samples at ``indices``, in that order; each block is decoded once."""
        size = len(self)
        places = []
        for given in indices:
            index = operator.index(given)
            if not -size <= index < size:
                raise IndexError(f"index {index} is out of range for {self!r}")
            places.append(index + size if index < 0 else index)
        columns = [field_values(info, data) for info, data in zip(self._schema, self._engine.get(places), strict=True)]
        return rows_of(self._schema, columns, len(places))

    def select(self, indices: Sequence[int] | np.ndarray[Any, Any]) -> View:
        """The samples at ``indices``, in that order; repeats are allowed, negative ones count from the end.

        Raises:
            IndexError: an index that does not exist.
        """
        return View({"select": _compact(_resolved(indices, self))}, [self])

    def take(self, count: int) -> View:
        """The first ``count`` samples, or all if there are fewer."""
        count = operator.index(count)
        if count < 0:
            raise ValueError(f"count must be >= 0, got {count}")
        return View({"select": {"runs": [[0, min(count, len(self))]]}}, [self])

    def split(self, fraction: float, *, seed: int = 0) -> tuple[View, View]:
        """Two datasets drawn at random, sample by sample: ``round(fraction * len(self))`` samples, and all others.

        The same seed draws the same samples, and with a larger fraction these and more. Both keep the order of the
        files.
        """
        split = {"fraction": float(fraction), "seed": operator.index(seed) % 2**64}
        first, second = (View({"split": {**split, "part": part}}, [self]) for part in (0, 1))
        return first, second

    def concat(self, *others: Dataset) -> View:
        """This dataset and then ``others``, whose fields must be the same."""
        return View("concat", [self, *others])

    def _place(self) -> str:
        files = list(dict.fromkeys(self.files))
        return files[0] if len(files) == 1 else f"{len(files)} files"

    def __repr__(self) -> str:
        fields = ", ".join(_field_text(info) for info in self._schema[:8])
        more = ", ..." if len(self._schema) > 8 else ""
        return f"zenith.{type(self).__name__}({self._place()}: {len(self):,} samples of {fields}{more})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (type(self), self._spec, self.fingerprint, self._epoch)


class View(Dataset):
    """Samples of other datasets: what `select`, `take`, `split` and `concat` return. Read natively like the datasets below.

    Its fingerprint is that of the datasets below together with what was chosen of them.
    """

    def __init__(self, view: str | dict[str, Any], of: Sequence[Dataset]) -> None:
        for base in of:
            if not isinstance(base, Dataset):
                raise TypeError(f"views are made of Zenith datasets, got {type(base).__name__}")
            name = overridden(base)
            if name is not None:
                raise TypeError(
                    f"{type(base).__name__} overrides {name}, which a view would pass by. "
                    "Use torch.utils.data.Subset or ConcatDataset"
                )
        engine = _engine.Dataset.view(json.dumps(view), [base._engine for base in of])
        epoch = max(base._epoch for base in of)
        spec = {"format": "View", "view": view, "of": [base._spec for base in of]}
        self._adopt(spec, engine.at_epoch(epoch) if epoch else engine, epoch)

    def _place(self) -> str:
        view = self._spec["view"]
        if view == "concat":
            return f"{super()._place()}, concat of {len(self._spec['of'])}"
        if "split" in view:
            split = view["split"]
            return f"{super()._place()}, split({split['fraction']}, seed={split['seed']})[{split['part']}]"
        return f"{super()._place()}, selected"


def concat(datasets: Sequence[Dataset]) -> View:
    """One dataset after another; their fields must be the same (else `zenith.InvalidArgumentError` names the field)."""
    return View("concat", list(datasets))


def overridden(dataset: Dataset) -> str | None:
    """The method of sample access that the dataset's class replaced, so that the engine does not know its samples."""
    for name in ("__getitem__", "__getitems__", "__len__"):
        if getattr(type(dataset), name) is not getattr(Dataset, name):
            return name
    return None


def _resolved(indices: Any, dataset: Dataset) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Indices as numbers from 0 on."""
    values = np.asarray(indices)
    if values.size == 0:
        return np.empty(0, dtype=np.int64)
    if values.ndim != 1 or values.dtype.kind not in "iu":
        hint = ". Use numpy.flatnonzero(mask)" if values.dtype.kind == "b" else ""
        raise TypeError(f"indices must be a sequence of integers, got {values.ndim}-d {values.dtype}{hint}")
    size = len(dataset)
    for index in (int(values.min()), int(values.max())):
        if not -size <= index < size:
            raise IndexError(f"index {index} is out of range for {dataset!r}")
    values = values.astype(np.int64)
    return np.where(values < 0, values + size, values)


def _compact(values: np.ndarray[Any, np.dtype[np.int64]]) -> dict[str, Any]:
    """Numbers one by one, or as runs where that is shorter."""
    cuts = np.flatnonzero(np.diff(values) != 1) + 1
    if 2 * (len(cuts) + 1) >= len(values):
        return {"list": values.tolist()}
    bounds = np.concatenate([[0], cuts, [len(values)]])
    return {"runs": np.stack([values[bounds[:-1]], np.diff(bounds)], axis=1).tolist()}


def _reopen(cls: type[Dataset], spec: dict[str, Any], fingerprint: str, epoch: int) -> Dataset:
    dataset = cls.__new__(cls)
    Dataset.__init__(dataset, spec)
    if dataset.fingerprint != fingerprint:
        raise DatasetChangedError(f"{dataset!r} is not what was pickled: its files changed. Open it again")
    if epoch:
        dataset.set_epoch(epoch)
    return dataset


def _field_text(info: FieldInfo) -> str:
    if info.kind != "dense":
        return f"{info.name} {info.kind}"
    shape = "" if not info.shape else str(list(info.shape))
    return f"{info.name} {info.dtype}{shape}"


def _paths(paths: PathLike | Sequence[PathLike]) -> list[str]:
    if isinstance(paths, (str, os.PathLike)):
        paths = [paths]
    return [os.path.expanduser(os.fspath(path)) for path in paths]


class Parquet(Dataset):
    """Rows of Parquet files.

    Args:
        paths: a file, a directory (hidden files are skipped), a glob (bytewise sorted), or a list of them.
        columns: names of the columns to deliver; members of a struct are ``outer.inner``. Default: all, or with
            ``stack`` those that it names.
        stack: fields made of columns: ``{"x": ["f0", "f1"], "y": "label"}`` gives ``x`` of shape ``[2]`` and a scalar
            ``y``. The columns of one field must be of one dtype (see ``dtypes``).
        dtypes: element types by field or column, such as ``{"x": "float16"}``. To an integer type the values must fit
            exactly, else it is an error that names the row.
        nulls: ``"error"``, or values by column that stand for missing ones: ``{"age": 0}``.
        ragged: how variable lists are delivered: ``"list"`` (one array a sample), ``"pad"`` (with ``pad_value`` to
            ``pad_length``; a longer list is an error) or ``"jagged"`` (a batch of a torch loader is one nested tensor
            of layout ``torch.jagged``; a sample is a 1-D array).
        decimals: ``"error"`` (those of scale 0 are exact int64 all the same), or ``"float64"`` for the nearest float.
        filters: only rows that meet these conditions, in pyarrow's form: ``[("year", ">=", 2020), ("kind", "in", {"a"})]``
            (all must hold), or a list of such lists (one must hold). Operators are ``==``, ``=``, ``!=``, ``<``, ``<=``,
            ``>``, ``>=``, ``in`` and ``not in``; columns need not be delivered; a missing value meets no condition.
            Values are bool, int, float, Decimal, str, bytes, date or datetime, and must fit the type of the column.
        partitioning: ``"hive"``: directories such as ``year=2024`` are columns too, int64 where every value is an
            integer, else text.
        fields: columns to deliver, by name, in this order (in place of ``columns`` and ``stack``): transforms for a column
            of encoded pictures (a list is composed), ``None`` for any other. Pictures are bytes, or structs with a member
            ``bytes`` as Hugging Face's datasets have them; paths are not opened.
        seed: seed of the transforms that draw; `set_epoch` has them draw anew.

    Raises:
        zenith.NotFoundError: no file, or a column that does not exist.
        zenith.CorruptError, zenith.UnsupportedError: a file that cannot be read, naming file and place.
    """

    def __init__(
        self,
        paths: PathLike | Sequence[PathLike],
        *,
        columns: Sequence[str] | None = None,
        stack: Mapping[str, str | Sequence[str]] | None = None,
        dtypes: Mapping[str, str | np.dtype[Any] | type] | None = None,
        nulls: str | Mapping[str, Any] = "error",
        ragged: str = "list",
        pad_value: float = 0,
        pad_length: int | None = None,
        decimals: str = "error",
        filters: Filters | None = None,
        partitioning: str | None = None,
        fields: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        pictures = {}
        if fields is not None:
            if columns is not None or stack is not None:
                raise ValueError("fields says which columns are delivered: give it without columns and stack")
            pictures = _pictures(fields)
            columns = list(fields)
        options = _column_options(columns, stack, dtypes, nulls, ragged, pad_value, pad_length, decimals)
        options["filters"] = conditions(filters)
        options["partitioning"] = partitioning
        spec: dict[str, Any] = {"format": "Parquet", "paths": _paths(paths), "options": options}
        if pictures:
            options["encoded"] = list(pictures)
            given = [[name, description] for name, description in pictures.items()]
            spec = {"format": "Pictures", "of": spec, "fields": given, "seed": operator.index(seed) % 2**64}
        super().__init__(spec)


class ArrowIpc(Dataset):
    """Rows of Arrow IPC files (Feather V2 is the same) and streams, compressed or not.

    A block is a record batch; one of more than 32 MiB of plain numbers is read in parts.

    Args:
        paths: a file, a directory (hidden files are skipped), a glob (bytewise sorted), or a list of them.
        columns: names of the columns to deliver; members of a struct are ``outer.inner``. Default: all, or with
            ``stack`` those that it names.
        stack: fields made of columns: ``{"x": ["f0", "f1"], "y": "label"}`` gives ``x`` of shape ``[2]`` and a scalar
            ``y``. The columns of one field must be of one dtype (see ``dtypes``).
        dtypes: element types by field or column, such as ``{"x": "float16"}``. To an integer type the values must fit
            exactly, else it is an error that names the row.
        nulls: ``"error"``, or values by column that stand for missing ones: ``{"age": 0}``.
        ragged: how variable lists are delivered: ``"list"`` (one array a sample), ``"pad"`` (with ``pad_value`` to
            ``pad_length``; a longer list is an error) or ``"jagged"`` (a batch of a torch loader is one nested tensor
            of layout ``torch.jagged``; a sample is a 1-D array).
        decimals: ``"error"`` (those of scale 0 are exact int64 all the same), or ``"float64"`` for the nearest float.
        partitioning: ``"hive"``: directories such as ``year=2024`` are columns too, int64 where every value is an
            integer, else text.

    Raises:
        zenith.NotFoundError: no file, or a column that does not exist.
        zenith.CorruptError, zenith.UnsupportedError: a file that cannot be read, naming file and place. A stream
            without its end marker counts as cut short.
    """

    # Parquet's without filters, and written out all the same: a base would have to leave Parquet's written out too, and
    # keywords passed through would hide from `help()` and from editors what a call takes.
    def __init__(
        self,
        paths: PathLike | Sequence[PathLike],
        *,
        columns: Sequence[str] | None = None,
        stack: Mapping[str, str | Sequence[str]] | None = None,
        dtypes: Mapping[str, str | np.dtype[Any] | type] | None = None,
        nulls: str | Mapping[str, Any] = "error",
        ragged: str = "list",
        pad_value: float = 0,
        pad_length: int | None = None,
        decimals: str = "error",
        partitioning: str | None = None,
    ) -> None:
        options = _column_options(columns, stack, dtypes, nulls, ragged, pad_value, pad_length, decimals)
        options["partitioning"] = partitioning
        super().__init__({"format": "ArrowIpc", "paths": _paths(paths), "options": options})


class Csv(Dataset):
    """Rows of CSV files, plain or compressed (``.gz``, ``.zst``).

    Opening makes one pass over each file that finds its rows (quoted newlines included) and looks at values in every
    part of it to tell the types: int64, uint64, float64, bool (``true``/``false``), else text. What it found is kept
    under the user's cache directory (``ZENITH_CACHE_DIR`` chooses another) until the file changes.

    Empty lines are passed over. A missing value is an error unless ``nulls`` names what stands for it; in columns of
    text an empty field is empty text.

    Args:
        paths: a file, a directory (hidden files are skipped), a glob (bytewise sorted), or a list of them. All must have
            the same columns.
        columns: names of the columns to deliver. Default: all, or with ``stack`` those that it names.
        stack: fields made of columns: ``{"x": ["f0", "f1"], "y": "label"}`` gives ``x`` of shape ``[2]`` and a scalar
            ``y``.
        dtypes: element types by field or column, such as ``{"x": "float32", "zip": "str"}``. To an integer type the
            values must fit exactly, else it is an error that names the line.
        nulls: ``"error"``, or values by column that stand for missing ones: ``{"age": 0}``.
        delimiter: what separates fields.
        quote: what encloses fields with delimiters or newlines inside; doubled inside it stands for itself. ``None``:
            nothing does.
        header: whether each file begins with the names of the columns. Default: unless ``names`` is given.
        names: names of the columns; with ``header=True`` they replace the file's.
        null_values: what stands for a missing value, besides nothing at all. Default: ``NA``, ``N/A``, ``#N/A``, ``n/a``,
            ``NULL``, ``null`` and ``None``.
        max_ratio: compressed files that unpack to more than this many times their size are refused.
        partitioning: ``"hive"``: directories such as ``year=2024`` are columns too, int64 where every value is an
            integer, else (or by ``dtypes={"year": "str"}``) text.

    Warns:
        UserWarning: no newline ends the last row of a file, so that it may have been cut.

    Raises:
        zenith.NotFoundError: no file, or a column that does not exist.
        zenith.CorruptError: text that is no CSV, naming file and line: a quote never closed, a row with too few or too
            many fields, a value that is not of its column's type, text that is not UTF-8.
    """

    def __init__(
        self,
        paths: PathLike | Sequence[PathLike],
        *,
        columns: Sequence[str] | None = None,
        stack: Mapping[str, str | Sequence[str]] | None = None,
        dtypes: Mapping[str, str | np.dtype[Any] | type] | None = None,
        nulls: str | Mapping[str, Any] = "error",
        delimiter: str = ",",
        quote: str | None = '"',
        header: bool | None = None,
        names: Sequence[str] | None = None,
        null_values: Sequence[str] | None = None,
        max_ratio: int = 200,
        partitioning: str | None = None,
    ) -> None:
        given = dict(dtypes or {})
        text = [name for name, dtype in given.items() if dtype is str or dtype in ("str", "string", "text")]
        numbers = {name: dtype for name, dtype in given.items() if name not in text}
        options = _column_options(columns, stack, numbers, nulls, "list", 0, None, "error")
        for name, value in (("delimiter", delimiter), ("quote", quote)):
            if value is not None and len(value) != 1:
                raise ValueError(f"{name} must be one character, got {value!r}")
        if isinstance(names, str) or isinstance(null_values, str):
            raise TypeError("names and null_values must be lists of strings")
        options |= {
            "delimiter": delimiter,
            "quote": quote,
            "header": header,
            "names": None if names is None else list(names),
            "text": text,
            "max_ratio": operator.index(max_ratio),
            "partitioning": partitioning,
        }
        if null_values is not None:
            options["null_values"] = list(null_values)
        super().__init__({"format": "Csv", "paths": _paths(paths), "options": options})


def _pictures(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The descriptions of the fields that are pictures."""
    pictures = {name: transforms for name, transforms in fields.items() if transforms is not None}
    for name, transforms in pictures.items():
        if not is_transforms(transforms):
            raise TypeError(f"fields[{name!r}] must be transforms of zenith.transforms, or None, got {transforms!r}")
    return {name: described(transforms) for name, transforms in pictures.items()}


def _column_options(
    columns: Sequence[str] | None,
    stack: Mapping[str, str | Sequence[str]] | None,
    dtypes: Mapping[str, str | np.dtype[Any] | type] | None,
    nulls: str | Mapping[str, Any],
    ragged: str,
    pad_value: float,
    pad_length: int | None,
    decimals: str,
) -> dict[str, Any]:
    """The options of columns as the engine reads them."""
    if isinstance(columns, str):
        raise TypeError(f"columns must be a list of names, got the string {columns!r}")
    lists: Any = ragged
    if ragged == "pad":
        if pad_length is None:
            raise ValueError('ragged="pad" needs pad_length=, the number of elements every sample gets')
        lists = {"pad": {"value": pad_value, "length": pad_length}}
    return {
        "columns": None if columns is None else list(columns),
        "stack": [[name, of if isinstance(of, str) else list(of)] for name, of in (stack or {}).items()],
        "dtypes": [[name, _dtype_name(dtype)] for name, dtype in (dtypes or {}).items()],
        "nulls": nulls if isinstance(nulls, str) else {"fill": [[name, value] for name, value in nulls.items()]},
        "ragged": lists,
        "decimals": decimals,
    }


def _dtype_name(dtype: str | np.dtype[Any] | type) -> str:
    return dtype if isinstance(dtype, str) else np.dtype(dtype).name


class Tokens(Dataset):
    """Windows of ``seq_len`` tokens from ``.bin`` (raw little-endian ``dtype``) or ``.npy`` files.

    Fields ``x`` and ``y``: int64 ``[seq_len]`` each, of storage of their own; ``y`` is ``x`` moved on by one token.

    Args:
        paths: a file, a directory, a glob, or a list of them.
        dtype: element type of ``.bin`` files, ``"uint16"`` or ``"uint32"``; ``.npy`` files say it themselves.
        seq_len: tokens in ``x`` and in ``y``.
        stride: tokens between the starts of neighbouring windows; ``seq_len`` by default.
        random: draw every window's start anew each epoch, uniformly within its block of the file (4 MiB).
        seed: seed of the random starts.
        boundary: the token between documents. A target in ``y`` that belongs to another document than the token before
            it is then -100, which torch's losses ignore; ``x`` stays as it is. By default windows run across documents.
        boundary_at: ``"end"``: ``boundary`` is the last token of a document, which is still predicted (nanoGPT's files);
            ``"start"``: it is the first token, and the one after it is predicted (llm.c's files).

    Raises:
        zenith.CorruptError: a file whose length is not a whole number of tokens, or a damaged header.
        ValueError: an option out of range, also a ``boundary`` that is no token of these files.
    """

    def __init__(
        self,
        paths: PathLike | Sequence[PathLike],
        *,
        dtype: str | np.dtype[Any] | type = "uint16",
        seq_len: int = 1024,
        stride: int | None = None,
        random: bool = False,
        seed: int = 0,
        boundary: int | None = None,
        boundary_at: str = "end",
    ) -> None:
        if boundary_at not in ("end", "start"):
            raise ValueError(f'boundary_at must be "end" or "start", got {boundary_at!r}')
        options: dict[str, Any] = {
            "dtype": np.dtype(dtype).name,
            "seq_len": seq_len,
            "stride": stride,
            "random": random,
            "seed": seed,
        }
        if boundary is not None:
            boundary = operator.index(boundary)
            if not 0 <= boundary < 2**32:
                raise ValueError(f"boundary must be a token, from 0 to 2**32 - 1, got {boundary}")
            options["boundary"] = {"token": boundary, "begins": boundary_at == "start"}
        super().__init__({"format": "Tokens", "paths": _paths(paths), "options": options})


def open(paths: PathLike | Sequence[PathLike], **options: Any) -> Dataset:
    """Opens files by the format that their names tell: ``.parquet``, ``.arrow``, ``.feather``, ``.ipc``
    and ``.arrows`` (Arrow IPC), ``.csv``, ``.csv.gz``, ``.csv.zst`` and ``.tsv``, ``.tar`` (WebDataset), or ``.bin`` and
    ``.npy`` (tokens).

    Keywords go to the dataset's class. Raises ``ValueError`` for a name that tells no format.
    """
    from zenith.webdataset import WebDataset  # which is made of this module's base

    listed = _paths(paths)
    if not listed:
        raise ValueError("no paths were given")
    found = _engine.format_of(_first_file(listed[0]))
    if found is None:
        raise ValueError(
            f"the format of {listed[0]!r} is not told by its name. Use zenith.Parquet, ArrowIpc, Csv, Tokens or WebDataset, "
            f"or a name (or glob) that ends in {_engine.suffixes()}"
        )
    kinds: dict[str, type[Parquet] | type[ArrowIpc] | type[Csv] | type[Tokens] | type[WebDataset]] = {
        kind.__name__: kind for kind in (Parquet, ArrowIpc, Csv, Tokens, WebDataset)
    }
    name, delimiter = found
    if delimiter is not None:
        options.setdefault("delimiter", delimiter)
    return kinds[name](paths, **options)


def _raise(error: OSError) -> None:
    """For `os.walk`, which else passes over folders that it cannot list."""
    # A path that is no folder (a file, a glob) is looked at by the engine.
    if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
        raise error


def _first_file(path: str) -> str:
    """The first visible file below a directory; any other path as it is."""
    for folder, folders, files in os.walk(path, onerror=_raise):
        folders[:] = sorted(name for name in folders if name[0] not in "._")
        visible = sorted(name for name in files if name[0] not in "._")
        if visible:
            return os.path.join(folder, visible[0])
    return path
