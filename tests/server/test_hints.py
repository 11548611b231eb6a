"""Parts of images that are encoded ahead at a server: all of them, in order, unless the hint is taken back."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future

import httpx
import pytest

from napari_sammed.backend.local import LocalBackend
from napari_sammed.backend.remote import RemoteBackend
from napari_sammed.backend.slicing import slice_of
from napari_sammed.intensity import Window
from napari_sammed.prompts import Point, Prompts
from napari_sammed.server import hints
from napari_sammed.server.settings import Settings
from tests.server.serving import Client, in_thread, until, volume
from tests.thresholder import Thresholder

WINDOW = Window.preset("soft-tissue")


class Gated(Thresholder):
    """Looks at slices, when it is let."""

    def __init__(self) -> None:
        super().__init__(planar=True)
        self.go_on = threading.Event()
        self.go_on.set()

    def embed(self, *asked):
        assert self.go_on.wait(20)
        return super().embed(*asked)

    @property
    def slices(self) -> list[int]:
        return [box.low[0] for box in self.embedded]


@pytest.fixture
def model():
    return Gated()


@pytest.fixture
def url(tmp_path, model):
    with in_thread(Settings(tmp_path), LocalBackend("cpu", models={"planar": model})) as address:
        yield address
        model.go_on.set()


def hint(*indices: int, **more) -> dict:
    regions = [[[index, 0, 0], [index + 1, 24, 28]] for index in indices]
    return {"model": "planar", "regions": regions, "window": WINDOW.to_json(), **more}


def post(client: Client, body: dict, **how) -> httpx.Response:
    return client.http.post(f"/v1/sessions/{client.session}/prefetch", json=body, **how)


def test_hints_are_worked_off_in_order_and_a_newer_one_replaces_none(url, model):
    client = Client(url)
    client.open(volume())
    model.go_on.clear()
    for body in (hint(1), hint(2, 3), hint(4), hint(2)):
        assert post(client, body).status_code == 202
    model.go_on.set()
    until(lambda: len(model.embedded) >= 4)
    assert post(client, hint(5, wait=True)).status_code == 200
    assert model.slices == [1, 2, 3, 4, 5], "each once"


def test_one_can_wait_for_it_and_by_leaving_take_it_back(url, model):
    client, other = Client(url), Client(url)
    client.open(volume())
    other.session = client.session
    model.go_on.clear()
    assert post(client, hint(1)).status_code == 202
    with pytest.raises(httpx.ReadTimeout):
        post(other, hint(2, 3, wait=True), timeout=0.5)
    other.close()
    found: list[httpx.Response] = []
    waiting = threading.Thread(target=lambda: found.append(post(client, hint(4, wait=True))))
    waiting.start()
    waiting.join(2.0)
    assert waiting.is_alive(), "it waits until the slice is encoded"
    model.go_on.set()
    waiting.join(20)
    assert found[0].status_code == 200 and model.slices == [1, 4]


def test_a_session_that_ends_takes_its_hints_with_it(url, model):
    client = Client(url)
    client.open(volume())
    model.go_on.clear()
    post(client, hint(1, 2, 3))
    assert client.http.delete(f"/v1/sessions/{client.session}").status_code == 204
    model.go_on.set()
    client.open(volume())
    assert post(client, hint(7, wait=True)).status_code == 200
    assert model.slices in ([1, 7], [7]), "what had begun may be through"


def test_only_so_many_wait_and_the_oldest_go_first(monkeypatch):
    monkeypatch.setattr(hints, "MOST", 3)
    waiting, parts = hints.Hints(), [Future() for _ in range(6)]
    for part in parts[:2]:
        waiting.add("a", [part])
    waiting.add("b", [parts[5]])
    parts[0].set_result(None)
    waiting.add("a", parts[2:5])
    assert [part.cancelled() for part in parts] == [False, True, False, False, False, False]
    asyncio.run(asyncio.wait_for(hints.ready(parts[:2]), 5))  # done, and given up
    waiting.forget("a")
    assert [part.cancelled() for part in parts] == [False, True, True, True, True, False]


def test_the_futures_of_a_remote_backend_are_done_when_it_is(url, model):
    image = volume()
    remote = RemoteBackend(url, consent=True)
    try:
        opened = remote.open(image)
        model.go_on.clear()
        regions = [slice_of(image.grid, 0, index) for index in range(4)]
        (first,) = remote.prefetch(opened, "planar", regions[:1], WINDOW)  # while the image is on its way
        (second,) = remote.prefetch(opened, "planar", regions[1:2], WINDOW)
        (third,) = remote.prefetch(opened, "planar", regions[2:3], WINDOW)
        with pytest.raises(TimeoutError):
            first.result(2.0)
        assert third.cancel()
        threading.Event().wait(0.5)  # the server hears of it
        model.go_on.set()
        first.result(20)
        second.result(20)
        assert sorted(model.slices) == [0, 1]
        remote.predict(opened, "planar", Prompts((Point((1, 12, 14)),)), window=WINDOW)
        assert sorted(model.slices) == [0, 1], "the slice was there"
    finally:
        remote.shutdown()
