"""Zenith for PyTorch: a drop-in ``DataLoader`` with a native path, exact resume and an account of itself."""

from zenith_torch import _ops as _ops  # isort: split

from zenith_torch.contact_sheet import show
from zenith_torch.loader import DataLoader
from zenith_torch.patching import patch
from zenith_torch.sampler import PlanSampler

__all__ = ["DataLoader", "PlanSampler", "patch", "show"]
