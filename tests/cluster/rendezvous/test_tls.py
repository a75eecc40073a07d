"""TLS between agents: who has no certificate that counts is refused with the reason, and disturbs nobody."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import time
from pathlib import Path

import pytest

from .conftest import Start

TWO = ["--nnodes=2"]


def openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


class Authority:
    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder / name
        self.folder.mkdir()
        self.certificate, self.key = self.folder / "ca.pem", self.folder / "ca.key"
        curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        openssl(
            "req", "-x509", *curve, "-keyout", self.key, "-out", self.certificate, "-subj", f"/CN={name}", "-days", "2"
        )

    def node(self, names: str = "IP:127.0.0.1,IP:127.0.0.2,IP:127.0.0.3", *, days: int = 2) -> dict[str, Path]:
        """The files of a node whose certificate is made out to `names`, and is valid for so many days from now."""
        place = self.folder / f"{len(list(self.folder.iterdir()))}"
        key, request, made, extensions = (place.with_suffix(end) for end in (".key", ".csr", ".pem", ".ext"))
        curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        openssl("req", "-new", *curve, "-keyout", key, "-out", request, "-subj", "/CN=node")
        extensions.write_text(f"subjectAltName={names}\nextendedKeyUsage=serverAuth,clientAuth\n")
        signing = ["-CA", self.certificate, "-CAkey", self.key, "-CAcreateserial", "-days", str(days)]
        openssl("x509", "-req", "-in", request, *signing, "-extfile", extensions, "-out", made)
        return {"tls_cert": made, "tls_key": key, "tls_ca": self.certificate}


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    if shutil.which("openssl") is None:
        pytest.skip("certificates are made by openssl, which is not here")
    return Authority(tmp_path, "ours")


def conf(files: dict[str, Path], more: str = "") -> str:
    return "--rdzv-conf=" + ",".join([*(f"{key}={path}" for key, path in files.items()), *([more] if more else [])])


def test_nodes_with_certificates_of_one_authority_meet(start: Start, authority: Authority) -> None:
    nodes = [start(":", *TWO, conf(authority.node())) for _ in range(2)]
    assert [node.code() for node in nodes] == [0, 0], nodes[0].stderr + nodes[1].stderr


def test_a_static_run_has_agents_with_tls_and_ranks_without_at_one_port(start: Start, authority: Authority) -> None:
    pytest.importorskip("torch")
    reduce = "$PYTHON -c \"import torch.distributed as d; d.init_process_group('gloo'); d.barrier(); print('met')\""
    nodes = [
        start(reduce, *TWO, conf(authority.node()), f"--node-rank={rank}", backend="static", GLOO_SOCKET_IFNAME="lo")
        for rank in range(2)
    ]
    assert [node.code() for node in nodes] == [0, 0], nodes[0].stderr + nodes[1].stderr
    assert all(node.stdout.count("met") == 2 for node in nodes)


def test_who_proves_nothing_is_refused_and_told_why(start: Start, authority: Authority, tmp_path: Path) -> None:
    host = start(":", *TWO, conf(authority.node()))
    time.sleep(0.4)
    expired = authority.node(days=-1)
    foreign = Authority(tmp_path, "theirs").node()
    mixed = foreign | {"tls_ca": authority.certificate}
    for others, told_there, told_here in [
        (conf(expired), "CertificateExpired", "Expired"),
        (conf(mixed), "fatal alert", "UnknownIssuer"),
        (conf(foreign), "UnknownIssuer", "fatal alert"),
        ("--rdzv-conf=a=b", "the host demands TLS, and this node has none", ""),
    ]:
        other = start(":", *TWO, others)
        assert other.code() == 1
        assert told_there in other.stderr, other.stderr
        assert told_here in host.stderr, host.stderr
        assert host.process.poll() is None, "the host goes on waiting"
    second = start(":", *TWO, conf(authority.node()))
    assert (host.code(), second.code()) == (0, 0)


def test_a_host_must_have_the_name_by_which_it_is_called(start: Start, authority: Authority) -> None:
    alone = start(":", *TWO, conf(authority.node("DNS:node.example")))
    assert alone.code() == 1, "it would be the host, and nobody could follow it"
    assert "not valid for name" in alone.stderr, alone.stderr
    host = start(":", *TWO, conf(authority.node("DNS:node.example"), "tls_name=node.example"))
    time.sleep(0.4)
    other = start(":", *TWO, conf(authority.node()))
    assert other.code() == 1
    assert "not valid for name" in other.stderr, other.stderr
    assert "tls_name" in other.stderr
    host.kill()
    named = [start(":", *TWO, conf(authority.node("DNS:node.example"), "tls_name=node.example")) for _ in range(2)]
    assert [node.code() for node in named] == [0, 0], named[0].stderr + named[1].stderr


def test_a_host_without_tls_is_no_host_for_a_node_with_it(start: Start, authority: Authority) -> None:
    host = start(":", *TWO)
    time.sleep(0.3)
    other = start(":", *TWO, conf(authority.node()))
    assert other.code() == 1
    assert "it ended the greeting" in other.stderr
    host.waits_for("it speaks TLS, and this node has no tls_cert")
    host.kill()


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_old_versions_slow_ones_and_noise_do_no_harm(start: Start, authority: Authority, port: int) -> None:
    host = start(":", *TWO, conf(authority.node()))
    time.sleep(0.4)
    slow = socket.create_connection(("127.0.0.1", port))
    slow.sendall(b"\x16\x03\x01\x02\x00\x01")
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.set_ciphers("ALL:@SECLEVEL=0")
    for version in (ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_2):
        old.minimum_version = old.maximum_version = version
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection, pytest.raises(ssl.SSLError):
            old.wrap_socket(connection)
    # Without a certificate: TLS is there, and what follows is not listened to.
    old.maximum_version = old.minimum_version = ssl.TLSVersion.TLSv1_3
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        try:
            with old.wrap_socket(connection) as secure:
                secure.sendall(b"zrdzv/1\n")
                assert secure.recv(1) == b""
        except OSError:
            pass
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(b"\x16" + b"\xff" * 4000)
        connection.settimeout(10)
        while connection.recv(4096):
            pass
    began = time.monotonic()
    slow.settimeout(10)
    assert slow.recv(1) == b""
    assert time.monotonic() - began < 7
    slow.close()
    second = start(":", *TWO, conf(authority.node()))
    assert (host.code(), second.code()) == (0, 0)
    assert "NoCertificatesPresented" in host.stderr or "no certificates" in host.stderr, host.stderr


def test_the_next_host_is_found_through_tls_too(start: Start, authority: Authority) -> None:
    more = "last_call_timeout=0.5,keep_alive_interval=0.5"
    nodes = []
    for place in (1, 2, 3):
        arguments = ["--nnodes=2:3", "--max-restarts=1", f"--local-addr=127.0.0.{place}"]
        nodes.append(start("sleep 60", *arguments, conf(authority.node(f"IP:127.0.0.{place}"), more)))
        time.sleep(0.3)
    for node in nodes:
        node.waits_for(" WORLD_SIZE=6 ", 2)
    nodes[0].kill()
    for node in nodes[1:]:
        node.waits_for(" WORLD_SIZE=4 ", 2)


def test_files_that_cannot_be_used_are_named(start: Start, authority: Authority, tmp_path: Path) -> None:
    files = authority.node()
    (tmp_path / "empty").write_text("")
    for wrong, part in [
        (files | {"tls_key": tmp_path / "none"}, "tls_key"),
        (files | {"tls_cert": tmp_path / "empty"}, "there is no certificate in it"),
        (files | {"tls_key": authority.key}, "tls_cert"),
    ]:
        node = start(":", *TWO, conf(wrong))
        assert node.code() == 1
        assert part in node.stderr, node.stderr
    half = start(":", *TWO, f"--rdzv-conf=tls_cert={files['tls_cert']}")
    assert half.code() == 1
    assert "belong together" in half.stderr
