"""The manifests of the examples: their parts fit each other, and their command lines run. Slurm's scripts: tests/cluster/slurm."""

from __future__ import annotations

import os
import re
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

yaml = pytest.importorskip("yaml")
ROOT = Path(__file__).parents[2]
MANIFESTS = sorted((ROOT / "examples" / "kubernetes").glob("*.yaml"))
SECONDS = 60
pytestmark = [
    pytest.mark.parametrize("path", MANIFESTS, ids=[path.stem for path in MANIFESTS]),
    pytest.mark.usefixtures("time_limit"),
]


def objects(path: Path) -> dict[str, Any]:
    return {document["kind"]: document for document in yaml.safe_load_all(path.read_text())}


def job(path: Path) -> dict[str, Any]:
    """The specification of the Indexed Job."""
    found = objects(path)
    if "JobSet" in found:
        [only] = found["JobSet"]["spec"]["replicatedJobs"]
        assert only["replicas"] == 1, "the index of a pod is its node's rank in a single job only"
        return dict(only["template"]["spec"])
    return dict(found["Job"]["spec"])


def container(path: Path) -> dict[str, Any]:
    [only] = job(path)["template"]["spec"]["containers"]
    return dict(only)


def flag(path: Path, name: str) -> str:
    [value] = [text.split("=", 1)[1] for text in container(path)["args"] if text.startswith(f"--{name}=")]
    return str(value)


def test_as_many_nodes_start_as_wait_for_each_other(path: Path) -> None:
    spec = job(path)
    assert spec["completionMode"] == "Indexed"
    assert str(spec["completions"]) == str(spec["parallelism"]) == flag(path, "nnodes")
    assert str(container(path)["resources"]["limits"]["nvidia.com/gpu"]) == flag(path, "nproc-per-node")


def test_the_host_is_called_as_its_pod_is(path: Path) -> None:
    found = objects(path)
    pod, service = flag(path, "master-addr").split(".")
    if "JobSet" in found:
        name = found["JobSet"]["metadata"]["name"]
        [replicated] = found["JobSet"]["spec"]["replicatedJobs"]
        assert pod == f"{name}-{replicated['name']}-0-0"
        network = found["JobSet"]["spec"]["network"]
        assert network == {"enableDNSHostnames": True, "publishNotReadyAddresses": True, "subdomain": service}
        return
    name = found["Job"]["metadata"]["name"]
    assert pod == f"{name}-0"
    assert job(path)["template"]["spec"]["subdomain"] == found["Service"]["metadata"]["name"] == service
    headless = found["Service"]["spec"]
    assert headless["selector"] == {"batch.kubernetes.io/job-name": name}
    assert headless["clusterIP"] == "None"
    assert headless["publishNotReadyAddresses"] is True


def test_the_secret_is_where_it_is_looked_for(path: Path) -> None:
    secret = objects(path)["Secret"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container(path)["volumeMounts"]}
    [name] = [
        volume["name"]
        for volume in job(path)["template"]["spec"]["volumes"]
        if volume.get("secret", {}).get("secretName") == secret["metadata"]["name"]
    ]
    [key] = secret["stringData"]
    assert flag(path, "rdzv-conf") == f"secret_file={mounts[name]}/{key}"


def test_its_command_line_trains(path: Path, zenith_run: str, tmp_path: Path) -> None:
    """A process for each pod, on the loopback; GPUs and the image's script are not here."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    secret, script = tmp_path / "secret", tmp_path / "train.py"
    secret.write_text("x" * 64)
    script.write_text("import os; print('rank', os.environ['RANK'], 'of', os.environ['WORLD_SIZE'])")
    elsewhere = {"--master-addr": "127.0.0.1", "--master-port": port, "--nproc-per-node": 1}
    elsewhere["--rdzv-conf"] = f"secret_file={secret}"
    command = [zenith_run, f"--log-dir={tmp_path}"]
    for text in container(path)["args"][:-1]:
        name, _, value = text.partition("=")
        command.append(f"{name}={elsewhere.get(name, value)}")
    nodes = []
    grace = job(path)["template"]["spec"]["terminationGracePeriodSeconds"]
    for index in range(job(path)["completions"]):
        variables = {"JOB_COMPLETION_INDEX": str(index)}
        for variable in container(path)["env"]:
            of_index = "job-completion-index" in str(variable.get("valueFrom"))
            variables[variable["name"]] = str(index) if of_index else variable["value"]
        assert variables["ZENITH_OUTER_GRACE"] == str(grace)
        environment = os.environ | variables
        started = subprocess.Popen(
            [*command, str(script)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        nodes.append(started)
    ended = [(*node.communicate(timeout=SECONDS), node.returncode) for node in nodes]
    assert [code for _, _, code in ended] == [0, 0], ended
    assert [said for said, _, _ in ended] == ["rank 0 of 2\n", "rank 1 of 2\n"]
    wanted = flag(path, "shutdown-timeout")
    shortened = re.escape(f"the shutdown timeout is {grace - 3} s instead of {wanted}: by $ZENITH_OUTER_GRACE")
    assert all(re.search(shortened, errors) for _, errors, _ in ended), ended
