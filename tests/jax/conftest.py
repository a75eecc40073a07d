"""The CPU as eight devices, or as many as ZENITH_JAX_DEVICES says; set before jax looks."""

from __future__ import annotations

import os

COUNT = int(os.environ.get("ZENITH_JAX_DEVICES", "8"))
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={COUNT}"
os.environ.setdefault("JAX_PLATFORMS", "cpu")
