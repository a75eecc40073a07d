"""Zenith for PyTorch."""

from zenith_torch import _ops as _ops

__all__: list[str] = []
