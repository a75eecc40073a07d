from collections.abc import Callable, Sequence
from typing import final

from typing_extensions import CapsuleType

__all__ = [
    "ArenaReader",
    "ArenaWriter",
    "Dataset",
    "Epoch",
    "Feed",
    "Loader",
    "Loan",
    "Part",
    "Table",
    "Transforms",
    "_TestSource",
    "_test_source",
    "_test_tensors",
    "batch_key",
    "check_options",
    "check_transforms",
    "columns",
    "create_arena",
    "decode_image",
    "draw_cut_mix",
    "draw_mix_up",
    "end_lending",
    "format_of",
    "info",
    "leases",
    "lend",
    "load",
    "loader_defaults",
    "next_parts",
    "suffixes",
    "take_error",
]

def info() -> str:
    """What the machine and this build have, as JSON."""

def loader_defaults() -> str:
    """Every option of a loader with its default, as JSON."""

def check_options(options: str) -> None:
    """Raises for options of a loader, as JSON, that no dataset could make sense of."""

def decode_image(data: bytes, options: str) -> tuple[int, int, int, bytearray]:
    """Height, width, channels and pixels of a picture; options: mode, turn, reduce, coarse, region, as JSON."""

@final
class Dataset:
    def __new__(cls, spec: str) -> Dataset: ...
    @staticmethod
    def view(spec: str, of: list[Dataset]) -> Dataset: ...
    def __len__(self) -> int: ...
    def at_epoch(self, epoch: int) -> Dataset: ...
    @property
    def schema(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def jumps(self) -> bool: ...
    def readable_in_order(self, bytes: int) -> bool: ...
    @property
    def block_rows(self) -> list[int]: ...
    @property
    def classes(self) -> list[str]: ...
    @property
    def notices(self) -> list[str]: ...
    @property
    def files(self) -> list[str]: ...
    def get(self, indices: list[int]) -> list[bytearray | tuple[bytearray, bytearray]]: ...

@final
class Loader:
    def __new__(cls, dataset: Dataset, options: str, state: str | None = None) -> Loader: ...
    @property
    def order(self) -> tuple[int, int]: ...
    @property
    def notices(self) -> list[str]: ...
    def batches(self, position: int) -> int: ...
    def state(self, epoch: int, position: int) -> str: ...
    def indices(self, epoch: int, start: int, step: int, count: int) -> list[int]: ...
    def epoch(self, epoch: int, position: int, pin: bool = False) -> Epoch: ...

@final
class Epoch:
    @property
    def id(self) -> int: ...
    @property
    def position(self) -> int: ...
    def stats(self) -> str: ...
    def close(self) -> None: ...

def next_parts(loader: int, wait_ms: int) -> tuple[int, list[Part]]:
    """What the call came to (0 a batch, 1 none yet, 2 the end), and the parts of the batch, shard after shard."""

def leases() -> int:
    """How many parts of batches are held now, by arrays above all."""

@final
class Part:
    """Memory of one part of a batch, on the CPU. Any number of arrays may be made of it by DLPack."""

    def on(self, device: int) -> Part:
        """The same memory as seen from CPU device ``device``."""
    def raw(self) -> Part:
        """The same memory as bytes in one dimension."""
    @property
    def shape(self) -> list[int]: ...
    @property
    def dtype(self) -> str: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def pointer(self) -> int: ...
    def __dlpack_device__(self) -> tuple[int, int]: ...
    def __dlpack__(
        self,
        *,
        stream: int | None = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> CapsuleType: ...

@final
class Feed:
    """Serves the batches of an epoch to `zenith_jax.next_batch`, by its number."""

    def __new__(
        cls,
        loader: Loader,
        shards: int,
        devices: int,
        epoch: int,
        position: int,
        narrow: bool,
        window: int,
        stall_ms: int,
    ) -> Feed: ...
    @property
    def id(self) -> int: ...
    @property
    def fields(self) -> str: ...
    def restart(self, loader: Loader, epoch: int, position: int) -> None: ...
    def close(self) -> None: ...

def create_arena() -> int:
    """The descriptor of a new arena (memory that a worker shares), which the caller closes."""

@final
class Loan:
    """What a forked child may read in place; to be dropped when the child has ended."""

def lend(start: Callable[[], object]) -> Loan:
    """Calls ``start``, which forks a child of this process, and lends it the batches that are held here."""

@final
class ArenaWriter:
    """A worker's arena."""

    def __new__(cls, descriptor: int) -> ArenaWriter: ...
    @property
    def id(self) -> int: ...
    def request(self, dtype: str, shape: Sequence[int]) -> bool: ...
    def descriptors(self) -> bytes: ...

@final
class ArenaReader:
    """The main process's side of an arena."""

    def __new__(cls, descriptor: int) -> ArenaReader: ...
    @property
    def id(self) -> int: ...
    def load(self, descriptors: bytes) -> None: ...

def columns(batch: list[object]) -> list[tuple[str, bytearray | tuple[object, ...]]] | None:
    """The columns of a batch of tuples: ``"q"`` and ``"d"`` are int64 and float64 values, ``""`` the values themselves."""

def end_lending() -> None:
    """Lets decode threads leave the framework's tensors alone from here on; for the end of the process."""

def load(pattern: str, columns: list[str] | None = None, mmap: bool = False) -> Table: ...
def format_of(name: str) -> tuple[str, str | None] | None: ...
def suffixes() -> str: ...

@final
class Table:
    def __arrow_c_stream__(self, requested_schema: object = None) -> object: ...

def take_error() -> Exception:
    """The exception behind the latest `zenith::next_batch` of this thread that returned status 3."""

def _test_source(
    fields: list[tuple[str, list[int], bytes]], rows: int, script: str = "b", kind: int = 4
) -> _TestSource: ...

@final
class _TestSource:
    @property
    def id(self) -> int: ...
    @property
    def leased(self) -> int: ...
    @property
    def released(self) -> int: ...
    @property
    def pointers(self) -> list[int]: ...
    def extend(self, script: str) -> None: ...
    def close(self) -> None: ...

def _test_tensors(count: int | None = None) -> None:
    """For tests: the next `count` tensors that should be pinned are ordinary ones, those after them are refused."""

@final
class Transforms:
    """A pipeline of transforms of pictures; results are (bytes, name of the dtype, shape)."""

    def __new__(cls, json: str) -> Transforms: ...
    def apply(self, encoded: bytes, key: int) -> tuple[bytearray, str, list[int]]: ...
    def apply_pixels(self, pixels: bytes, height: int, width: int, key: int) -> tuple[bytearray, str, list[int]]: ...
    def view(self, height: int, width: int, key: int) -> str: ...
    @property
    def output(self) -> tuple[str, list[int]]: ...
    @property
    def is_random(self) -> bool: ...

def check_transforms(json: str) -> None:
    """Raises where an argument of a transform is not what it may be."""

def batch_key(seed: int, epoch: int, batch: int) -> int: ...
def draw_mix_up(alpha: float, key: int) -> float: ...
def draw_cut_mix(alpha: float, height: int, width: int, key: int) -> tuple[tuple[int, int, int, int], float]: ...
