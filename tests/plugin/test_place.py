"""Segmenting at a server from the panel: a real viewer, and a real server in a process of its own."""

# ruff: noqa: F811, fixtures from elsewhere

from __future__ import annotations

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
from tests.plugin.test_preview import Pointer
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


def test_the_outline_under_the_pointer_is_the_mask_of_the_click(open_plugin, server):
    hands = open_plugin(VOLUME.array, show=True, scale=(3, 1, 1), name="scan", model=None, own_backend=True)
    go_to(hands, server.url)
    hands.mode("positive")
    pointer = Pointer(hands)
    for _ in range(5):
        pointer.over(MIDDLE)
        hands.qtbot.wait(100)
    assert not pointer.outlines.shown and choice(hands).question is None  # nothing was sent, so nobody knows
    hands.look_at(MIDDLE)
    hands.qtbot.mouseClick(hands.canvas, Qt.MouseButton.LeftButton, pos=hands.position(MIDDLE))
    answer(hands, send=True)
    hands.settle()
    first = mask_of(hands)
    pointer.rest(OTHER)
    outlined = pointer.fill(VOLUME.grid.shape)[OTHER[0]]
    assert np.array_equal(mask_of(hands), first)
    hands.click(OTHER)
    assert np.array_equal(mask_of(hands)[OTHER[0]], outlined) and outlined[OTHER[1:]]


def test_all_frames_of_a_series_go_along(open_plugin, server):
    frames = np.stack([VOLUME.array, VOLUME.array[:, :, ::-1] + 1])
    hands = open_plugin(frames, model=None, own_backend=True)

    def show(frame: int) -> None:
        hands.viewer.dims.set_point(0, frame)
        hands.qtbot.wait(300)
        hands.settle()

    show(0)
    prompt(hands, MIDDLE)
    hands.settle()
    first = hands.session.labels()
    show(1)
    prompt(hands, MIDDLE)
    hands.settle()
    second = hands.session.labels()
    hands.viewer.dims.set_point(0, 0)  # looks at the first one again, and does nothing to it
    hands.qtbot.wait(300)
    go_to(hands, server.url)
    prompt(hands, OTHER)
    answer(hands, send=True)
    hands.settle()
    assert hands.session.labels()[OTHER] and hands.session.labels()[MIDDLE] and first[MIDDLE]
    show(1)
    prompt(hands, OTHER)
    hands.settle()
    assert hands.session.labels()[OTHER] == 1 and (hands.session.labels() != second).any()
    hands.act("undo")
    assert np.array_equal(hands.session.labels(), second)


def test_a_model_that_is_not_there_gives_way_to_auto(hands, server):
    chooser = hands.panel.image_section.model
    chooser.box.set_key("medsam")
    go_to(hands, server.url)
    host = Place(server.url).host
    hands.qtbot.waitUntil(lambda: f"{host} does not have MedSAM" in hands.panel.status.warning.text())
    assert chooser.key == "auto" and chooser.fetch_button.isHidden() and chooser.files_button.isHidden()
    chooser.box.set_key("random-walker")
    chooser.box.activated.emit(chooser.box.currentIndex())
    assert not hands.panel.status.warning.text()
    come_home(hands)
    assert chooser.key == "random-walker" and chooser.box.findData("medsam") >= 0


def test_a_backend_that_a_program_gives_is_used(open_plugin, server):
    Servers().choose(Place(server.url))
    hands = open_plugin(VOLUME.array)
    assert hands.panel.place.place == "This computer"


def test_prompts_without_an_answer_are_answered_here_when_the_user_comes_home(hands, server):
    go_to(hands, server.url)
    prompt(hands, MIDDLE)
    answer(hands, send=False)
    come_home(hands)
    hands.settle()
    assert mask_of(hands)[MIDDLE] and hands.panel.place.place == "This computer"


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
