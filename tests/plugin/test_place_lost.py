"""Servers that are not there yet, not allowed, slow or lost: nothing is sent too early, and nothing is lost."""

# ruff: noqa: F811, fixtures from elsewhere

from __future__ import annotations

import contextlib
import socket
import threading
from urllib.parse import urlsplit

import numpy as np
import pytest
from qtpy.QtCore import Qt

pytest.importorskip("fastapi", reason="needs the extra [server]")

from napari_sammed.backend.remote_choice import Place, Servers
from tests.plugin.at_server import (  # noqa: F401, some are fixtures
    MIDDLE,
    OTHER,
    VOLUME,
    answer,
    choice,
    come_home,
    go_to,
    hands,
    images_at,
    local,
    mask_of,
    prompt,
    replayed,
    server,
    trial,
)
from tests.remote.lines import line
from tests.server.serving import process


def test_a_server_that_is_killed_and_started_again_answers_the_next_click(open_plugin, tmp_path, local):
    hands = open_plugin(VOLUME.array, show=True, scale=(3, 1, 1), name="scan", model=None, own_backend=True)

    def press(index) -> None:
        """Click, and do not wait for the answer."""
        hands.look_at(index)
        hands.qtbot.mouseClick(hands.canvas, Qt.MouseButton.LeftButton, pos=hands.position(index))

    data = tmp_path / "server"
    with process(data, "--device", "cpu") as running:
        go_to(hands, running.url)
        hands.mode("positive")
        press(MIDDLE)
        answer(hands, send=True)
        hands.settle()
        running.kill()
    press(OTHER)  # nobody is there
    hands.qtbot.waitUntil(lambda: "trying again" in hands.message, timeout=15000)
    assert hands.session.busy and Place(running.url).host in hands.message
    with process(data, "--device", "cpu", "--port", str(urlsplit(running.url).port)):
        hands.settle(60)
        assert len(hands.session.objects[1].prompts) == 2 and mask_of(hands)[OTHER]
        press((1, 1, 1))
        hands.settle(30)
        assert np.array_equal(hands.labels, replayed(hands, local))
        assert sum(action.do == "prompt" for action in hands.session.history.done) == 3  # none repeated


def test_what_a_lost_server_owes_is_answered_here(hands, tmp_path, local):
    with process(tmp_path / "server", "--device", "cpu") as running:
        go_to(hands, running.url)
        prompt(hands, MIDDLE)
        answer(hands, send=True)
        hands.settle()
    prompt(hands, OTHER)
    hands.qtbot.waitUntil(lambda: "trying again" in hands.message, timeout=15000)
    come_home(hands)
    assert mask_of(hands)[MIDDLE] and mask_of(hands)[OTHER]
    assert np.array_equal(hands.session.labels(), replayed(hands, local))
    go_to(hands, running.url)  # still nobody there
    hands.qtbot.waitUntil(lambda: "does not answer" in hands.panel.status.warning.text(), timeout=15000)
    assert mask_of(hands)[OTHER]
    come_home(hands)
    assert hands.panel.status.warning.text() == ""


def test_a_server_that_stays_away_is_said_with_what_to_do(hands, tmp_path, monkeypatch):
    monkeypatch.setattr("napari_sammed.backend.remote_connection._FIRST_PATIENCE", 1.0)
    with process(tmp_path / "server", "--device", "cpu") as running:
        url = running.url
    Servers().agree(url)
    go_to(hands, url)
    prompt(hands, MIDDLE)
    hands.settle(20)
    assert "Nothing that you did is lost" in hands.message and "this computer" in hands.panel.status.remark.text()
    assert not hands.panel.status.retry_button.isHidden() and len(hands.session.objects[1].prompts) == 1
    with process(tmp_path / "server", "--device", "cpu", "--port", str(urlsplit(url).port)):
        hands.press(hands.panel.status.retry_button)
        hands.settle(20)
        assert mask_of(hands)[MIDDLE] and not hands.panel.status.remark.text()
        hands.qtbot.waitUntil(lambda: "answers in" in hands.panel.place.toolTip())


def test_the_window_can_be_closed_while_the_question_is_open(hands, server):
    go_to(hands, server.url)
    prompt(hands, MIDDLE)
    hands.qtbot.waitUntil(lambda: choice(hands).question is not None)
    journal = hands.session.journal
    hands.widget.coordinator.close(wait=True)
    assert choice(hands).question is None and '"do":"prompt"' in journal.read_text()


def test_not_now_sends_nothing_and_keeps_the_prompts(hands, tmp_path):
    with process(tmp_path / "server", "--device", "cpu") as running, line(running.url) as wire:
        go_to(hands, wire.url)
        hands.qtbot.waitUntil(lambda: "answers in" in hands.panel.place.toolTip())
        before = wire.sent
        prompt(hands, MIDDLE)
        hands.qtbot.waitUntil(lambda: choice(hands).question is not None)
        question = choice(hands).question
        size = f"{VOLUME.array.nbytes / 2**20:.1f} MiB"
        assert Place(wire.url).host in question.text() and size in question.text()
        assert "voxels and their geometry, no names" in question.informativeText()
        assert question.defaultButton() is question.later_button
        answer(hands, send=False)
        hands.settle()
        assert wire.sent == before and not images_at(running)
        assert "Nothing was sent" in hands.message and not hands.panel.status.retry_button.isHidden()
        assert len(hands.session.objects[1].prompts) == 1 and not mask_of(hands).any()
        assert not Servers().agreed(wire.url)
        hands.press(hands.panel.status.retry_button)
        answer(hands, send=True)
        hands.settle()
        assert mask_of(hands)[MIDDLE] and images_at(running) and Servers().agreed(wire.url)
        prompt(hands, OTHER)  # nobody is asked again
        hands.settle()
        assert mask_of(hands)[OTHER] and choice(hands).question is None


def test_the_server_is_remembered_and_left_in_peace_until_it_is_needed(open_plugin, tmp_path):
    heard = []
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"

        def listen() -> None:
            with contextlib.suppress(OSError):
                while True:
                    heard.append(listening.accept()[0])

        threading.Thread(target=listen, daemon=True).start()
        Servers().choose(Place(url))
        hands = open_plugin(VOLUME.array, model=None, own_backend=True)
        assert hands.panel.place.place == f"Server {Place(url).host}"
        hands.mode("positive")
        hands.viewer.dims.set_point(0, 3)
        hands.qtbot.wait(700)  # when slices would be encoded ahead
        assert not heard and hands.session is not None
        for end in heard:
            end.close()


def test_sending_shows_how_far_it_is_and_can_be_stopped(open_plugin, server, monkeypatch):
    monkeypatch.setattr("napari_sammed.backend.remote_session._GRACE", 0.5)
    noise = np.random.default_rng(0).integers(0, 1000, (128, 256, 256)).astype(np.int16)
    noise[10:30, 100:150, 100:150] += 3000
    with line(server.url) as wire:
        hands = open_plugin(noise, model=None, own_backend=True)
        go_to(hands, wire.url)
        before = images_at(server)
        wire.delay = 0.1
        prompt(hands, (20, 120, 120))
        answer(hands, send=True)
        hands.qtbot.waitUntil(lambda: "Sending the image" in hands.message, timeout=10000)
        assert "MiB" in hands.message and not hands.panel.status.cancel_button.isHidden()
        hands.press(hands.panel.status.cancel_button)
        hands.settle()
        assert "The prompts stay" in hands.message
        hands.qtbot.wait(1000)  # a newer prompt could still take over what this one began
        wire.delay = 0.0
        hands.qtbot.wait(1000)
        assert images_at(server) == before  # the rest was not sent
        hands.press(hands.panel.status.retry_button)
        hands.settle(60)
        assert hands.session.objects[1].mask is not None
