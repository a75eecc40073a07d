"""What becomes of samples that cannot be had: the loader's keywords, and the file that lists such samples."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zenith.errors import CorruptError

from zenith_torch.samples import Loss

if TYPE_CHECKING:
    from zenith_torch.loader import DataLoader


@dataclass(frozen=True)
class Policy:
    """The keywords that concern bad samples, and which dataset a line of the quarantine is of."""

    on_error: str
    max_bad_samples: int | None
    path: str | None = None
    dataset: str = ""
    samples: int | None = None

    @property
    def skips(self) -> bool:
        """Whether a sample that cannot be had is left out."""
        return self.on_error != "raise"

    @staticmethod
    def of(loader: DataLoader[Any]) -> Policy:
        if loader.quarantine_path is None:
            return Policy(loader.on_error, loader.max_bad_samples)
        kind = type(loader.dataset)
        try:
            samples = len(loader.dataset)  # type: ignore[arg-type]
        except (TypeError, NotImplementedError):
            samples = None
        return Policy(
            loader.on_error,
            loader.max_bad_samples,
            os.path.abspath(os.path.expanduser(loader.quarantine_path)),
            f"{kind.__module__}.{kind.__qualname__}",
            samples,
        )

    def listed(self) -> frozenset[int | str]:
        """The samples of this dataset that the quarantine lists. The file is made if there is none.

        Raises:
            OSError: the file can be neither read nor made.
            zenith.CorruptError: a line is not one of a quarantine.
        """
        if self.path is None:
            return frozenset()
        found = set()
        with open(self.path, "a+", encoding="utf-8") as file:
            file.seek(0)
            for number, text in enumerate(file, 1):
                try:
                    line = json.loads(text)
                    mine = (line.get("dataset"), line.get("samples")) == (self.dataset, self.samples)
                except (ValueError, AttributeError) as error:
                    raise CorruptError(
                        f"{self.path}, line {number}: not a line of a quarantine ({error}). Remove it, or give another "
                        "quarantine_path",
                        file=self.path,
                        row=number,
                    ) from error
                if mine and isinstance(line.get("index"), (int, str)):
                    found.add(line["index"])
        return frozenset(found)

    def add(self, loss: Loss, worker: int | None) -> None:
        """Adds a sample. Other processes may do so at the same time: the line is written whole."""
        if self.path is None:
            return
        line = {
            "dataset": self.dataset,
            "samples": self.samples,
            "index": loss.index,
            "kind": loss.kind,
            "message": loss.message,
            "worker": worker,
        }
        content = json.dumps(line).encode() + b"\n"
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            if os.write(file, content) < len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.path)
        finally:
            os.close(file)
