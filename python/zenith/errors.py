"""The exceptions of Zenith: one class per kind of error of the engine, with the place as attributes."""

from __future__ import annotations

from typing import Any, ClassVar


class ZenithError(RuntimeError):
    """Base of every error of Zenith.

    Attributes hold what is known of the place, else ``None``: ``file``, ``offset`` (bytes into the file), ``block``
    (row group or other unit of the file), ``row`` (row in the file, or line), ``field``. The message names them too.
    """

    number: ClassVar[int] = 0
    """Number of the kind in the engine; 0 for those that the engine does not raise."""

    file: str | None
    offset: int | None
    block: int | None
    row: int | None
    field: str | None

    def __init__(
        self,
        message: str,
        *,
        file: str | None = None,
        offset: int | None = None,
        block: int | None = None,
        row: int | None = None,
        field: str | None = None,
    ) -> None:
        super().__init__(message)
        self.file = file
        self.offset = offset
        self.block = block
        self.row = row
        self.field = field

    def __reduce__(self) -> tuple[Any, ...]:
        # Attributes travel in the state, so that an error keeps its place on its way out of a worker process.
        return type(self), (str(self),), self.__dict__.copy()


class InvalidArgumentError(ZenithError, ValueError):
    """An argument is out of range or contradicts another."""

    number = 1


class NotFoundError(ZenithError, FileNotFoundError):
    """A path, glob or column does not exist."""

    number = 2


class ReadError(ZenithError, OSError):
    """The operating system refused or failed a read."""

    number = 3


class CorruptError(ZenithError, ValueError):
    """The bytes are not what the format demands."""

    number = 4


class UnsupportedError(ZenithError, NotImplementedError):
    """The file is sound but uses something that is not supported."""

    number = 5


class BudgetError(ZenithError, MemoryError):
    """The file would need more memory than the budget allows."""

    number = 6


class DatasetChangedError(ZenithError):
    """A file was replaced, truncated or grown while it was being read."""

    number = 7


class StateError(ZenithError, ValueError):
    """A checkpoint does not belong to this dataset or version."""

    number = 8


class InternalError(ZenithError):
    """A fault of the engine itself; please report it."""

    number = 9


class ForkedEngineError(ZenithError):
    """An iterator of the parent process was used after a fork."""

    number = 10


class GivenUpError(ZenithError):
    """Long work was given up because the caller asked for it; Ctrl-C is ``KeyboardInterrupt`` all the same."""

    number = 11


class ReadTimeoutError(ReadError, TimeoutError):
    """A read took longer than ``read_timeout_ms``: a mount whose server is gone, or a disk that fails."""

    number = 12


class BadSamplesError(ZenithError):
    """More samples of a Python dataset could not be had than ``max_bad_samples`` allows."""


class StallError(ZenithError, TimeoutError):
    """A batch is later than ``stall_timeout``; the next ``next()`` waits for it again.

    Attributes: ``worker`` (its number) and ``pid``, ``batch`` (the indices that it was given), ``index`` (the one that it is
    at), ``stack`` (where it is, in Python); ``None`` where that is not known.
    """

    worker: int | None = None
    pid: int | None = None
    batch: Any = None
    index: Any = None
    stack: str | None = None


KINDS: dict[int, type[ZenithError]] = {
    kind.number: kind
    for kind in (
        InvalidArgumentError,
        NotFoundError,
        ReadError,
        CorruptError,
        UnsupportedError,
        BudgetError,
        DatasetChangedError,
        StateError,
        InternalError,
        ForkedEngineError,
        GivenUpError,
        ReadTimeoutError,
    )
}


def from_engine(
    number: int,
    message: str,
    file: str | None,
    offset: int | None,
    block: int | None,
    row: int | None,
    field: str | None,
) -> ZenithError:
    """The exception for an error of the engine; a number this version does not know becomes a `ZenithError`."""
    kind = KINDS.get(number, ZenithError)
    return kind(message, file=file, offset=offset, block=block, row=row, field=field)
