"""One server on four replicas for all files here, and somebody who talks to it."""

from __future__ import annotations

import pytest

from napari_sammed.backend.local import LocalBackend
from napari_sammed.backend.remote import RemoteBackend
from tests.server.serving import Client, volume


@pytest.fixture(scope="session")
def running(tmp_path_factory):
    pytest.importorskip("ray", reason="needs the extra [cluster]")
    pytest.importorskip("psutil", reason="looks at processes with psutil")
    from tests.server_cluster.clusters import cluster

    with cluster(tmp_path_factory.mktemp("cluster") / "data") as found:
        yield found


@pytest.fixture(scope="session")
def url(running) -> str:
    return running.url


@pytest.fixture
def client(url):
    client = Client(url)
    yield client
    client.close()


@pytest.fixture
def remote(url):
    backend = RemoteBackend(url, consent=True)
    yield backend
    backend.shutdown()


@pytest.fixture(scope="session")
def local() -> LocalBackend:
    from tests.remote.conftest import models

    found = LocalBackend("cpu", models=models())
    found.open(volume())
    yield found
    found.shutdown()


@pytest.fixture
def image():
    return volume()
