"""How a process joins the others of its job: told by zenith-run, else by what JAX itself detects."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping, Sequence
from typing import Any

import jax

# Which processes there are, and where they meet. zenith-run sets all three; torchrun lacks the first.
_LAUNCHED = ("JAX_COORDINATOR_ADDRESS", "WORLD_SIZE", "RANK")
_REQUIRED = ("coordinator_address", "num_processes", "process_id")
# How this process has joined, to notice a second call that wants something else.
_joined: dict[str, Any] = {}


def initialize(
    coordinator_address: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    local_device_ids: int | Sequence[int] | None = None,
    **options: Any,
) -> None:
    """Joins the job's other processes by ``jax.distributed.initialize``; call it before anything that uses a device.

    Under ``zenith-run`` no argument is needed. Where a node has several ranks, each uses the GPU of its local rank, unless
    ``CUDA_VISIBLE_DEVICES`` leaves but one or ``JAX_LOCAL_DEVICE_IDS`` says otherwise. Elsewhere JAX looks for Slurm, Open MPI,
    Kubernetes and TPUs. Arguments win over both; further ones are those of ``jax.distributed.initialize``. A second call does
    nothing, or raises a RuntimeError if it asks for another place.
    """
    given = {
        "coordinator_address": coordinator_address,
        "num_processes": num_processes,
        "process_id": process_id,
        "local_device_ids": [local_device_ids] if isinstance(local_device_ids, int) else local_device_ids,
        **options,
    }
    given = {name: value for name, value in given.items() if value is not None}
    if jax.distributed.is_initialized():
        _agree(given)
        return
    variables = dict(os.environ)
    if coordinator_address is not None:
        variables["JAX_COORDINATOR_ADDRESS"] = coordinator_address
    arguments = _launched(variables) | given
    try:
        jax.distributed.initialize(**arguments)
    except ValueError as error:
        missing = [name for name in _REQUIRED if name not in arguments]
        if not missing:
            raise
        raise ValueError(
            f"JAX finds no cluster that says {' or '.join(missing)}, and no launcher does: {_unset(variables)}. "
            "Start the program by zenith-run, or give what is missing"
        ) from error
    _joined.clear()
    _joined.update(arguments)


def _launched(variables: Mapping[str, str]) -> dict[str, Any]:
    """The arguments that a launcher's variables make; empty without one."""
    if not all(variables.get(name) for name in _LAUNCHED):
        return {}
    address = variables["JAX_COORDINATOR_ADDRESS"]
    arguments: dict[str, Any] = {
        "coordinator_address": address,
        "num_processes": _number(variables, "WORLD_SIZE"),
        "process_id": _number(variables, "RANK"),
        # zenith-run may itself be what Slurm or Open MPI has started, once per node; JAX would take its ids for ours.
        "cluster_detection_method": "deactivate",
    }
    if _is_loopback(address) and not variables.get("JAX_COORDINATOR_BIND_ADDRESS"):
        # Nobody comes from elsewhere, so nobody needs to be let in; JAX listens at all addresses.
        arguments["coordinator_bind_address"] = address
    if not variables.get("JAX_LOCAL_DEVICE_IDS") and _has_its_own_gpu(variables):
        arguments["local_device_ids"] = [_number(variables, "LOCAL_RANK")]
    return arguments


def _has_its_own_gpu(variables: Mapping[str, str]) -> bool:
    """Whether this rank's GPU has to be told from those of the node's other ranks."""
    if not variables.get("LOCAL_RANK") or _number(variables, "LOCAL_WORLD_SIZE", 1) == 1:
        return False
    # With a single one nothing is left to choose: somebody has chosen before, as by --virtual-local-rank.
    visible = variables.get("CUDA_VISIBLE_DEVICES")
    return visible is None or "," in visible


def _number(variables: Mapping[str, str], name: str, default: int | None = None) -> int:
    text = variables.get(name, "" if default is None else str(default))
    if not text.isdecimal():
        raise ValueError(f"{name}={text!r} is not a number; zenith-run sets it, see what has changed it since")
    return int(text)


def _is_loopback(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]")
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _unset(variables: Mapping[str, str]) -> str:
    """Which of the launcher's variables are missing, and which are not, as under torchrun."""
    unset = [name for name in _LAUNCHED if not variables.get(name)]
    found = [f"{name}={variables[name]}" for name in _LAUNCHED if name not in unset]
    return f"{', '.join(unset)} not set" + (f" (but {', '.join(found)})" if found else "")


def _agree(given: Mapping[str, Any]) -> None:
    for name, value in given.items():
        if name in _joined and _joined[name] != value:
            raise RuntimeError(
                f"JAX is initialized with {name}={_joined[name]!r} already, {name}={value!r} is too late; "
                "call jax.distributed.shutdown() before"
            )
