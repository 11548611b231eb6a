"""A server with TLS, at an address that other machines can reach: real handshakes, real certificates."""

from __future__ import annotations

import socket

import httpx
import pytest

from napari_sammed.backend.local import LocalBackend
from napari_sammed.backend.remote import RemoteBackend
from napari_sammed.errors import ServerError
from napari_sammed.prompts import Point, Prompts
from tests.server.serving import certified, process, volume

CLICK = Prompts((Point((5, 12, 14)),))


@pytest.fixture(scope="module")
def server(authority, tmp_path_factory):
    """One at all addresses of this machine, with a certificate for "localhost": the key that it made, and its port."""
    folder = tmp_path_factory.mktemp("server")
    certificate, private = certified(authority[0], folder)
    options = ("--tls-cert", str(certificate), "--tls-key", str(private))
    with process(folder / "data", "--host", "0.0.0.0", "--name", "localhost", *options) as running:
        yield running.process.stdout.readline().strip(), int(running.url.rpartition(":")[2])


def test_a_click_over_tls_is_the_one_of_this_machine(server, authority):
    key, port = server
    remote = RemoteBackend(f"https://localhost:{port}", key, consent=True, certificate=authority[1])
    local = LocalBackend("cpu")
    found, expected = (b.predict(b.open(volume()), "random-walker", CLICK) for b in (remote, local))
    assert found.box == expected.box and found.mask.tobytes() == expected.mask.tobytes()
    remote.shutdown(), local.shutdown()


def test_a_certificate_that_nobody_vouches_for_gets_no_key_and_no_image(server):
    key, port = server
    backend = RemoteBackend(f"https://localhost:{port}", key, consent=True)
    with pytest.raises(ServerError, match="certificate"):
        backend.check()
    backend.shutdown()


def test_a_certificate_for_another_name_is_refused(server, authority):
    key, port = server
    backend = RemoteBackend(f"https://127.0.0.1:{port}", key, consent=True, certificate=authority[1])
    with pytest.raises(ServerError, match="certificate"):
        backend.check()
    backend.shutdown()


def test_nothing_is_answered_without_tls_or_without_the_key(server, authority):
    _, port = server
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://localhost:{port}/v1/health", trust_env=False)
    with socket.create_connection(("localhost", port), 10) as line:
        line.sendall(b"GET /v1/health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"200" not in line.recv(100)
    backend = RemoteBackend(f"https://localhost:{port}", "nsk_wrong", consent=True, certificate=authority[1])
    with pytest.raises(ServerError, match="key"):
        backend.check()
    backend.shutdown()
