"""Orbax checkpoints of loaders and their iterators, beside those of the model.

manager.save(step, args=ocp.args.Composite(
    model=ocp.args.StandardSave(model), data=zenith_jax.checkpoint.CheckpointSave(loader)))
manager.restore(step, args=ocp.args.Composite(
    model=ocp.args.StandardRestore(model), data=zenith_jax.checkpoint.CheckpointRestore(loader)))
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import jax
import orbax.checkpoint as ocp
from zenith.errors import StateError

_FILE = "zenith.json"
"""One for all processes, whose state is the same: so that another number of them can go on."""


class CheckpointHandler(ocp.CheckpointHandler):  # type: ignore[misc]
    """Saves where a loader, or an iterator of one, stands, and lets it go on there."""

    def save(self, directory: Any, item: Any = None, args: Any = None) -> None:
        """Writes the state of ``args.item``."""
        item = item if args is None else args.item
        state = item.get_state() if hasattr(item, "get_state") else item.state_dict()
        if jax.process_index() == 0:
            (directory / _FILE).write_text(json.dumps(state))

    def restore(self, directory: Any, item: Any = None, args: Any = None) -> Any:
        """Lets ``args.item`` go on; returns it.

        Raises:
            zenith.StateError: there is no state of Zenith, or it is of another dataset.
        """
        item = item if args is None else args.item
        path = directory / _FILE
        try:
            state = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise StateError(f"{path} is no checkpoint of a loader: {error}") from error
        if hasattr(item, "set_state"):
            item.set_state(state)
        else:
            item.load_state_dict(state)
        return item

    def metadata(self, directory: Any) -> None:
        """There is none."""

    def finalize(self, directory: Any) -> None:
        """Nothing is left to do."""

    def close(self) -> None:
        """Nothing is open."""


@ocp.args.register_with_handler(CheckpointHandler, for_save=True)
@dataclass
class CheckpointSave(ocp.args.CheckpointArgs):  # type: ignore[misc]
    """Saves a `zenith_jax.DataLoader` or an iterator of one."""

    item: Any


@ocp.args.register_with_handler(CheckpointHandler, for_restore=True)
@dataclass
class CheckpointRestore(ocp.args.CheckpointArgs):  # type: ignore[misc]
    """Lets it go on where it was saved."""

    item: Any
