"""A server on loopback with models that need no weights, the same models here, and a backend at either."""

from __future__ import annotations

import dataclasses
import time

import pytest

pytest.importorskip("fastapi", reason="needs the extra [server]")

from napari_sammed.backend.local import LocalBackend
from napari_sammed.backend.remote import RemoteBackend
from napari_sammed.models import registry
from napari_sammed.server.settings import Settings
from tests.server.serving import in_thread, volume
from tests.thresholder import Ambiguous, Thresholder


class Slow(Thresholder):
    """Takes its time at every slice, and has weights, so that encoding counts as heavy."""

    def __init__(self) -> None:
        super().__init__(planar=True)
        self.card = dataclasses.replace(self.card, name="slow", weights=registry.card("litemedsam").weights)

    def decode(self, *asked):
        time.sleep(0.05)
        return super().decode(*asked)


class Doubtful(Thresholder):
    """Is unsure of half of the image by so little that half precision would make it sure."""

    def __init__(self) -> None:
        super().__init__()
        self.card = dataclasses.replace(self.card, name="doubtful")

    def decode(self, *asked):
        found = super().decode(*asked)
        values = found.values.copy()
        values[..., values.shape[-1] // 2 :] = 1.0982  # 0.75 has 1.0986, to which half precision rounds it
        return dataclasses.replace(found, values=values)


def models():
    return {
        "thresholder": Thresholder(),
        "planar": Thresholder(planar=True),
        "ambiguous": Ambiguous(),
        "slow": Slow(),
        "doubtful": Doubtful(),
    }


@pytest.fixture(scope="session")
def url(tmp_path_factory):
    """Of a server without keys."""
    with in_thread(Settings(tmp_path_factory.mktemp("server")), LocalBackend("cpu", models=models())) as address:
        yield address


@pytest.fixture
def remote(url):
    backend = RemoteBackend(url, consent=True)
    yield backend
    backend.shutdown()


@pytest.fixture(scope="session")
def local():
    backend = LocalBackend("cpu", models=models())
    yield backend
    backend.shutdown()


@pytest.fixture
def image():
    return volume()
