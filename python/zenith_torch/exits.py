"""Keeps daemon threads out of the engine while the interpreter ends: see `zenith.exits`."""

from zenith.exits import MAIN, aside

__all__ = ["MAIN", "aside"]
