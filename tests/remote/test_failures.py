"""Networks and servers that fail: nothing is lost, nothing counts twice, and what goes on is said."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time

import numpy as np
import pytest

from napari_sammed.backend.local import LocalBackend
from napari_sammed.backend.protocol.frames import read_frames
from napari_sammed.backend.remote import RemoteBackend
from napari_sammed.errors import Cancelled, InputError, ServerError
from napari_sammed.geometry import Grid
from napari_sammed.prompts import Point, Prompts
from napari_sammed.server.keys import add_key
from napari_sammed.server.settings import Limits, Settings
from napari_sammed.session import Session
from napari_sammed.volume import Volume
from tests.remote.lines import line, now_and_then
from tests.remote.test_remote import CLICKS, MIDDLE, anchor, assert_same
from tests.server.serving import Client, in_thread, process, until


@pytest.fixture
def broken(url):
    with line(url) as relay:
        yield relay


@pytest.fixture
def backend(broken):
    backend = RemoteBackend(broken.url, consent=True, patience=20)
    yield backend
    backend.shutdown()


def test_without_consent_no_byte_is_sent(broken, image):
    backend = RemoteBackend(broken.url)
    with pytest.raises(InputError, match="nobody agreed"):
        backend.open(image)
    backend.shutdown()
    assert broken.sent == 0


def test_answers_come_though_a_third_of_the_replies_is_lost(broken, backend, local, image):
    opened, here = backend.open(image), local.open(image)
    backend.predict(opened, "thresholder", CLICKS)
    broken.breaks = now_and_then(0.3)
    previous, previous_here = None, None
    for count in range(30):
        prompts = Prompts((MIDDLE, Point((5, 2, count % 20), positive=False)))
        found = backend.predict(opened, "thresholder", prompts, previous=previous)
        expected = local.predict(here, "thresholder", prompts, previous=previous_here)
        assert_same(found, expected)
        previous, previous_here = found.logits, expected.logits
    broken.breaks = lambda piece: False
    assert broken.broken > 5
    remote = backend._images[opened].remote
    client = Client(broken.server)
    journal = client.http.get(f"/v1/sessions/{remote.session.id}/journal").content
    client.close()
    ids = [entry.header["request_id"] for entry in read_frames([journal], 1 << 24)]
    assert len(ids) == len(set(ids)) == 31 and remote.session.revision == 31
    backend.close(opened), local.close(here)


def test_a_job_goes_on_where_its_events_broke_off(broken, backend, local, image):
    opened, here, parts = backend.open(image), local.open(image), []
    backend.predict(opened, "thresholder", CLICKS)
    broken.breaks = now_and_then(0.3, seed=1)
    found = backend.propagate(opened, "slow", [anchor(image)], 0, partial=parts.append)
    assert_same(found, local.propagate(here, "slow", [anchor(image)], 0))
    scopes = [part.scope for part in parts]
    assert len(scopes) == len(set(scopes)) and broken.broken  # none comes twice
    backend.close(opened), local.close(here)


def test_what_we_wait_for_is_said(broken, backend, image):
    opened, said = backend.open(image), []
    expected = backend.predict(opened, "thresholder", CLICKS)
    broken.open = False
    broken.cut()

    def progress(what, share):
        said.append(what)
        broken.open = len(said) > 2

    found = backend.predict(opened, "thresholder", CLICKS, progress=progress)
    assert_same(found, expected)
    assert said[0].startswith(f"waiting for {backend.host} (") and "trying again in 0.4 s" in said[1]
    backend.close(opened)


def test_it_is_given_up_after_a_while(broken, image):
    backend = RemoteBackend(broken.url, consent=True, patience=1)
    opened = backend.open(image)
    backend.predict(opened, "thresholder", CLICKS)
    broken.open = False
    broken.cut()
    start = time.monotonic()
    with pytest.raises(ServerError, match="Nothing that you did is lost"):
        backend.predict(opened, "thresholder", CLICKS)
    assert time.monotonic() - start < 10
    broken.open = True
    assert backend.predict(opened, "thresholder", CLICKS).mask.any()
    backend.shutdown()


def test_waiting_for_a_server_is_cancelled_at_once(broken, backend, image):
    opened, cancel = backend.open(image), threading.Event()
    backend.predict(opened, "thresholder", CLICKS)
    broken.open = False
    broken.cut()
    with pytest.raises(Cancelled):
        backend.predict(opened, "thresholder", CLICKS, cancel=cancel, progress=lambda what, share: cancel.set())


def test_nobody_there():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    backend = RemoteBackend(url)
    with pytest.raises(ServerError, match="no connection"):
        backend.check()
    backend.shutdown()


@pytest.mark.parametrize("status", ["200 OK", "404 Not Found", "302 Found"])
def test_something_else_there(image, status):
    """HTTP, but no server of ours."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    with connection:
                        connection.recv(1 << 16)
                        connection.sendall(f"HTTP/1.1 {status}\r\ncontent-length: 13\r\n\r\n<html></html>".encode())

        threading.Thread(target=serve, daemon=True).start()
        backend = RemoteBackend(f"http://127.0.0.1:{listening.getsockname()[1]}", consent=True)
        with pytest.raises(InputError, match=r"A JSON object was expected|is no server of|leads elsewhere"):
            backend.check()
        opened = backend.open(image)
        with pytest.raises(InputError, match=r"A JSON object was expected|is no server of|leads elsewhere"):
            backend.predict(opened, "random-walker", CLICKS)
        backend.shutdown()


@pytest.mark.parametrize("given", [None, "wrong"])
def test_keys(tmp_path, image, monkeypatch, given):
    monkeypatch.delenv("NAPARI_SAMMED_KEY", raising=False)
    key = add_key(tmp_path / "keys", "anna")
    with in_thread(Settings(tmp_path / "data", key_file=tmp_path / "keys")) as url:
        backend = RemoteBackend(url, given, consent=True)
        with pytest.raises(ServerError, match="wants a key" if given is None else "does not accept the key"):
            backend.check()
        opened = backend.open(image)
        with pytest.raises(ServerError, match="key"):
            backend.predict(opened, "random-walker", CLICKS)
        backend.shutdown()
        monkeypatch.setenv("NAPARI_SAMMED_KEY", key)
        backend = RemoteBackend(url, consent=True)
        assert "Random walker" in backend.check().sentence
        backend.shutdown()


def test_images_that_are_too_large(tmp_path, image):
    with in_thread(Settings(tmp_path, limits=Limits(image=1000))) as url:
        backend = RemoteBackend(url, consent=True)
        opened = backend.open(image)
        with pytest.raises(InputError, match="takes images of up to"):
            backend.predict(opened, "random-walker", CLICKS)
        backend.shutdown()


def large() -> Volume:
    noise = np.random.default_rng(0).integers(0, 4000, (40, 512, 512)).astype(np.int16)
    return Volume(noise, Grid.plain(noise.shape))


def test_sending_is_told_and_cancelled(url):
    with line(url) as relay:
        backend = RemoteBackend(relay.url, consent=True)
        opened, said, cancel = backend.open(large()), [], threading.Event()

        def progress(what, share):
            said.append((what, share))
            if share > 0.2:
                cancel.set()

        with pytest.raises(Cancelled):
            backend.predict(opened, "planar", Prompts((Point((5, 200, 200)),)), cancel=cancel, progress=progress)
        assert "of 20 MiB" in said[-1][0] and backend.host in said[-1][0]
        backend.close(opened)  # which ends it
        until(lambda: backend._loop.run(lambda tell: quiet(relay)))
        assert relay.sent < large().nbytes
        backend.shutdown()


async def quiet(relay) -> bool:
    before = relay.sent
    await asyncio.sleep(0.3)
    return relay.sent == before


def test_a_second_click_does_not_send_the_image_anew(url):
    with line(url) as relay:
        backend = RemoteBackend(relay.url, consent=True)
        opened, cancel = backend.open(large()), threading.Event()
        click = Prompts((Point((5, 200, 200)),))
        with pytest.raises(Cancelled):
            backend.predict(opened, "planar", click, cancel=cancel, progress=lambda what, share: cancel.set())
        backend.predict(opened, "planar", click)
        assert relay.sent < 1.2 * large().nbytes
        backend.shutdown()


def conversation(session: Session, between=lambda: None) -> list[np.ndarray]:
    """Clicks on two objects and a click taken back, with something happening before each."""
    masks = []
    for index, positive in (((5, 12, 14), True), ((5, 2, 2), False), ((6, 12, 16), True)):
        between()
        session.add(Point(index, positive), model="random-walker").result(60)
        masks.append(session.labels())
    session.new_object("other")
    between()
    session.add(Point((3, 8, 20)), model="random-walker").result(60)
    session.undo()
    between()
    session.add(Point((3, 8, 21)), model="random-walker").result(60)
    return [*masks, session.labels()]


@pytest.fixture
def expected(image):
    backend = LocalBackend("cpu")
    session = Session(image, backend)
    yield conversation(session)
    session.close()
    backend.shutdown()


def test_a_session_at_a_server_gives_the_masks_of_one_here(tmp_path, image, expected):
    with process(tmp_path / "data") as server:
        backend = RemoteBackend(server.url, consent=True)
        session = Session(image, backend)
        for found, mask in zip(conversation(session), expected, strict=True):
            np.testing.assert_array_equal(found, mask)
        session.close()
        backend.shutdown()


@pytest.mark.parametrize("data", ["kept", "lost"])
@pytest.mark.parametrize("kills", [{3}, pytest.param({1, 2, 3, 4, 5}, marks=pytest.mark.full)], ids=len)
def test_a_session_survives_servers_that_are_killed(tmp_path, image, expected, data, kills):
    """Before some clicks; with the server's journal, and without it. Nobody has to click again."""
    servers, clicks = [], []

    def before_a_click():
        clicks.append(1)
        if len(clicks) in kills:
            servers[-1].kill()
            start()

    def start():
        folder = tmp_path / (f"data{len(servers)}" if data == "lost" else "data")
        servers.append(stack.enter_context(process(folder)))
        relay.server = servers[-1].url

    with contextlib.ExitStack() as stack:
        relay = stack.enter_context(line("http://127.0.0.1:1"))
        start()
        backend = RemoteBackend(relay.url, consent=True)
        session = Session(image, backend)
        for found, mask in zip(conversation(session, before_a_click), expected, strict=True):
            np.testing.assert_array_equal(found, mask)
        assert len(clicks) == 5 and len(servers) == 1 + len(kills)
        session.close()
        backend.shutdown()
