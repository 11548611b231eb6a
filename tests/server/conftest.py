"""A server with models that need no weights, and somebody who talks to it."""

from __future__ import annotations

import pytest

from napari_sammed.backend.local import LocalBackend
from napari_sammed.server.settings import Settings
from tests.server.serving import Client, in_thread, volume
from tests.thresholder import Ambiguous, Thresholder


@pytest.fixture(scope="module")
def backend():
    models = {"thresholder": Thresholder(), "planar": Thresholder(planar=True), "ambiguous": Ambiguous()}
    return LocalBackend("cpu", models=models)  # the server ends it


@pytest.fixture(scope="module")
def url(tmp_path_factory, backend):
    """Of a server at loopback, without keys."""
    with in_thread(Settings(tmp_path_factory.mktemp("server")), backend) as address:
        yield address


@pytest.fixture
def client(url):
    client = Client(url)
    yield client
    client.close()


@pytest.fixture
def image():
    return volume()


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """Who signs the certificates here, and the file by which clients know it."""
    trustme = pytest.importorskip("trustme", reason="needs the extra [test]")
    path = tmp_path_factory.mktemp("authority") / "authority.pem"
    authority = trustme.CA()
    authority.cert_pem.write_to_path(path)
    return authority, path
