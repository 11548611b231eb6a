"""Segmenting at a server from the panel: a real viewer, and a real server in a process of its own."""

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

from napari_sammed.backend.local import LocalBackend
from napari_sammed.backend.remote_choice import Place, Servers
from napari_sammed.geometry import Box
from napari_sammed.models import registry
from napari_sammed.plugin.image.coordinates import rectangle_of
from napari_sammed.plugin.sessions.journals import FOLDER_VARIABLE
from tests.phantoms import ball
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


def test_clicks_on_the_canvas_are_answered_at_the_server_as_here(open_plugin, server, local):
    hands = open_plugin(VOLUME.array, show=True, scale=(3, 1, 1), name="scan", model=None, own_backend=True)
    problem, result = trial(hands, server.url)
    assert not problem and "answers in" in result and "Random walker" in result and not images_at(server)
    hands.press(choice(hands).dialog.ok_button)
    hands.settle()
    assert hands.panel.place.place == f"Server {Place(server.url).host}"
    hands.qtbot.waitUntil(lambda: "Random walker" in hands.panel.place.toolTip())
    box = hands.panel.image_section.model.box
    offered = {box.itemData(row) for row in range(box.count())}
    assert {"auto", "random-walker", "click"} <= offered and "medsam" not in offered  # there are no weights for it
    hands.mode("positive")
    hands.qtbot.waitUntil(lambda: hands.session is not None)
    hands.look_at(MIDDLE)
    hands.qtbot.mouseClick(hands.canvas, Qt.MouseButton.LeftButton, pos=hands.position(MIDDLE))
    answer(hands, send=True)
    hands.settle()
    expected = local.predict(local.open(VOLUME), "random-walker", hands.session.objects[1].prompts)
    first = mask_of(hands)
    assert np.array_equal(first[expected.box.slices], expected.mask) and first.sum() == expected.mask.sum() > 0
    assert images_at(server)
    hands.click(OTHER)
    second = mask_of(hands)
    hands.mode("negative")
    hands.click((*OTHER[:2], OTHER[2] + 3))
    assert np.array_equal(hands.labels, replayed(hands, local)) and not np.array_equal(mask_of(hands), second)
    hands.act("undo")
    assert np.array_equal(mask_of(hands), second)
    hands.act("undo")
    assert np.array_equal(mask_of(hands), first) and np.array_equal(hands.labels > 0, first)


def test_going_from_place_to_place_keeps_objects_and_steps(hands, server, local):
    prompt(hands, MIDDLE)
    hands.settle()
    here = mask_of(hands)
    prompt(hands, OTHER)
    hands.settle()
    hands.act("undo")
    go_to(hands, server.url)
    assert np.array_equal(mask_of(hands), here) and "from now on" in hands.message
    hands.act("redo")
    both = mask_of(hands)
    assert both.sum() > here.sum()
    prompt(hands, (1, 1, 1), positive=False)
    answer(hands, send=True)
    hands.settle()
    hands.panel.objects.added.emit()
    prompt(hands, OTHER)
    hands.settle()
    labels = hands.session.labels()
    assert set(hands.session.objects) == {1, 2} and np.array_equal(labels, replayed(hands, local))
    hands.session.select(1)
    come_home(hands)
    assert hands.panel.place.place == "This computer" and hands.session.current == 1
    assert np.array_equal(hands.session.labels(), labels)
    for _ in range(4):  # click in 2, making 2, click outside of 1, the second click in 1
        hands.act("undo")
    assert np.array_equal(mask_of(hands), here) and set(hands.session.objects) == {1}
    for _ in range(4):
        hands.act("redo")
    assert np.array_equal(hands.session.labels(), labels)
    prompt(hands, (1, 2, 2), positive=False)
    hands.settle()
    assert np.array_equal(hands.session.labels(), replayed(hands, local))


def test_a_server_that_is_killed_and_started_again_answers_the_next_click(hands, tmp_path, local):
    data = tmp_path / "server"
    with process(data, "--device", "cpu") as running:
        go_to(hands, running.url)
        prompt(hands, MIDDLE)
        answer(hands, send=True)
        hands.settle()
        running.kill()
    prompt(hands, OTHER)  # nobody is there
    hands.qtbot.waitUntil(lambda: "trying again" in hands.message, timeout=15000)
    assert hands.session.busy
    with process(data, "--device", "cpu", "--port", str(urlsplit(running.url).port)):
        hands.settle(60)
        assert len(hands.session.objects[1].prompts) == 2 and mask_of(hands)[OTHER]
        prompt(hands, (1, 1, 1), positive=False)
        hands.settle(30)
        assert np.array_equal(hands.session.labels(), replayed(hands, local))
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


def test_the_window_can_be_closed_while_the_question_is_open(hands, server):
    go_to(hands, server.url)
    prompt(hands, MIDDLE)
    hands.qtbot.waitUntil(lambda: choice(hands).question is not None)
    journal = hands.session.journal
    hands.widget.coordinator.close(wait=True)
    assert choice(hands).question is None and '"do":"prompt"' in journal.read_text()


def test_a_backend_that_a_program_gives_is_used(open_plugin, server):
    Servers().choose(Place(server.url))
    hands = open_plugin(VOLUME.array)
    assert hands.panel.place.place == "This computer"


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


def test_prompts_without_an_answer_are_answered_here_when_the_user_comes_home(hands, server):
    go_to(hands, server.url)
    prompt(hands, MIDDLE)
    answer(hands, send=False)
    come_home(hands)
    hands.settle()
    assert mask_of(hands)[MIDDLE] and hands.panel.place.place == "This computer"


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


def test_sending_shows_how_far_it_is_and_can_be_stopped(open_plugin, server):
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
        hands.qtbot.wait(4000)  # a newer prompt could still take over what this one began
        wire.delay = 0.0
        hands.qtbot.wait(1000)
        assert images_at(server) == before  # the rest was not sent
        hands.press(hands.panel.status.retry_button)
        hands.settle(60)
        assert hands.session.objects[1].mask is not None


@pytest.mark.full
@pytest.mark.timeout(300)
def test_networks_answer_at_the_server_as_here(open_plugin, tmp_path, monkeypatch):
    if registry.row("litemedsam").status == "absent":
        pytest.skip("no weights of litemedsam here")
    disc = ball((96, 128), (50, 60), 22)
    grey = (90 + 70 * disc + np.random.default_rng(0).normal(0, 8, disc.shape)).astype(np.float32)
    monkeypatch.setattr(
        "napari_sammed.plugin.coordinator._local_backend", lambda *_: LocalBackend("cpu", precision="float32")
    )

    def work(hands) -> list[np.ndarray]:
        """A box, a click that corrects it, another one here, and one step back."""
        hands.mode("box")
        hands.writer.boxes.add_rectangles([rectangle_of(Box((26, 36), (75, 85)), None)])
        if hands.panel.place.place != "This computer":
            answer(hands, send=True)
        hands.settle(120)
        masks = [hands.session.labels()]
        for index, positive in (((50, 50), False), ((50, 75), True)):
            prompt(hands, index, positive)
            hands.settle(120)
            masks.append(hands.session.labels())
            come_home(hands)
        hands.act("undo")
        return [*masks, hands.session.labels()]

    expected = work(open_plugin(grey, model=None, own_backend=True))
    with process(tmp_path / "server", "--device", "cpu", "--precision", "float32") as running:
        Servers().choose(Place(running.url))
        monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "others"))  # a session of its own
        hands = open_plugin(grey, model=None, own_backend=True)
        assert hands.session.objects == {}
        found = work(hands)
        assert images_at(running)
    assert all(mask.any() for mask in expected) and len({mask.sum() for mask in expected}) > 1
    assert {action.model for action in hands.session.history.done if action.prompt} == {"litemedsam"}
    for mask, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(mask, other)
