"""Models compared in the window: rows, outlines, the map of disagreement, and an answer taken over and back."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from qtpy.QtCore import Qt

from napari_sammed.errors import InputError
from napari_sammed.session.records import replay
from tests.phantoms import two_balls

NAMES = ["thresholder", "planar", "pixelated"]


def middle(mask: np.ndarray) -> tuple[int, ...]:
    return tuple(np.argwhere(mask).mean(0).round().astype(int).tolist())


@pytest.fixture(autouse=True)
def only_these(monkeypatch, backend):
    """The models that are on this machine."""
    monkeypatch.setattr(backend._models, "installed", lambda: tuple(NAMES))


@pytest.fixture
def scene():
    return two_balls()


def shown(hands) -> dict[str, list[np.ndarray]]:
    """Outlines by colour."""
    found: dict[str, list[np.ndarray]] = {}
    for outline in hands.segmentation.comparison.outlines.shown:
        found.setdefault(outline.colours[0][:7], []).append(outline.path)
    return found


def compared(hands) -> None:
    """Wait until all answers are here and measured."""
    view = hands.panel.comparison
    hands.qtbot.waitUntil(
        lambda: (
            len(view._rows) == len(NAMES)
            and all(row.figures or row.note not in ("", "waits …", "is asked …") for row in view._rows)
        ),
        timeout=20000,
    )
    hands.settle()


def texts(hands) -> list[list[str]]:
    table = hands.panel.comparison.table
    items = [[table.item(r, c) for c in range(table.columnCount())] for r in range(table.rowCount())]
    return [[item.text() for item in row if item is not None] for row in items]


def choose(hands, model: str) -> None:
    view = hands.panel.comparison
    view.table.selectRow([row.model for row in view._rows].index(model))


def seen(hands) -> list:
    """Layers that are not hidden."""
    return [layer for layer in hands.viewer.layers if layer.visible]


def test_a_comparison_by_key_and_its_answer_taken_over(open_plugin, scene, sessions, backend):
    volume, first, second = scene
    hands = open_plugin(volume.array, show=True, scale=(3, 1, 1))
    hands.panel.preview.setChecked(False)  # it has a layer of its own
    hands.mode("positive")
    hands.click(middle(first))
    before, layers = hands.labels.copy(), list(hands.viewer.layers)
    (journal,) = sessions.glob("*.jsonl")
    text = journal.read_bytes()
    hands.key(Qt.Key.Key_C, Qt.KeyboardModifier.ShiftModifier)
    compared(hands)
    assert journal.read_bytes() == text
    np.testing.assert_array_equal(hands.labels, before)
    view, comparison = hands.panel.comparison, hands.segmentation.comparison
    assert view.isVisible() and [row.model for row in view._rows] == NAMES
    z = middle(first)[0]
    assert f"on slice {z}" in view.caption.text() and "1 prompt" in view.caption.text()
    rows = texts(hands)
    assert rows[0][3] == rows[1][3] == "1.00", "the same as the mask on this slice"
    assert float(rows[2][3]) < 1 and rows[0][1] == "0.90"
    colours = [row.colour for row in view._rows]
    assert len(set(colours)) == 3 and hands.session.objects[1].colour not in colours
    assert set(shown(hands)) == set(colours)
    assert all(int(path[0, 0]) == z for paths in shown(hands).values() for path in paths)
    assert hands.viewer.layers.selection.active is hands.writer.points
    assert hands.writer.labels.contour == 1
    differ = comparison.map
    assert differ.ndim == 3 and differ.data.shape[0] == 1
    assert differ.data.max() == pytest.approx(1 / 3) and differ.data.min() == 0
    answers = {name: future.result() for name, future in comparison._comparison.answers.items()}
    votes = np.zeros(first.shape[1:], int)
    for answer in answers.values():
        whole = np.zeros(first.shape, bool)
        whole[answer.box.slices] = answer.mask
        votes += whole[z]
    row, column = np.argwhere(np.minimum(votes, 3 - votes) > 0)[0]
    world = hands.segmentation.image.data_to_world((z, row, column))
    place = tuple(round(v) for v in differ.world_to_data(world))
    assert differ.data[place] == pytest.approx(1 / 3), "the map lies where the image does"

    hands.look_at((z + 1, 0, 0))
    hands.qtbot.wait(200)
    paths = shown(hands)
    assert colours[1] not in paths, "a model of slices says nothing here"
    assert {int(path[0, 0]) for path in paths[colours[0]]} == {z + 1}

    choose(hands, "pixelated")
    hands.press(view.take_button)
    hands.settle()
    taken = hands.labels.copy()
    expected = np.zeros(first.shape, bool)
    expected[answers["pixelated"].box.slices] = answers["pixelated"].mask
    np.testing.assert_array_equal(taken == 1, expected)
    assert seen(hands) == layers and view.isHidden()
    assert "Undo goes back" in hands.message and hands.writer.labels.contour == 0
    assert hands.panel.image_section.model.key == "pixelated"
    hands.key(Qt.Key.Key_U)
    np.testing.assert_array_equal(hands.labels, before)
    assert "another model's answer" in hands.message
    hands.key(Qt.Key.Key_U, Qt.KeyboardModifier.ShiftModifier)
    np.testing.assert_array_equal(hands.labels, taken)
    hands.click(middle(second))
    assert hands.session.history.done[-1].model == "pixelated"
    replayed = replay(journal, hands.session.image, backend).labels(volume.grid.box)
    np.testing.assert_array_equal(replayed, hands.labels)


def test_closing_and_changing_the_object_take_everything_away(open_plugin, scene):
    volume, first, second = scene
    hands = open_plugin(volume.array)
    hands.session.add(_click(first)).result()
    hands.settle()
    hands.mode("positive")
    layers = list(hands.viewer.layers)
    for end in (
        lambda: hands.press(hands.panel.comparison.close_button),
        lambda: hands.session.add(_click(second)),
        lambda: hands.act("undo"),
    ):
        hands.act("compare")
        compared(hands)
        assert len(seen(hands)) == len(layers) + 2
        end()
        hands.settle()
        assert seen(hands) == layers and hands.panel.comparison.isHidden()
    hands.act("compare")
    compared(hands)
    hands.widget.coordinator.close(wait=True)
    assert not [layer for layer in seen(hands) if "models" in layer.name or "disagreement" in layer.name]


def test_a_model_that_fails_is_told_in_its_row(open_plugin, scene, backend, monkeypatch):
    volume, first, _ = scene
    hands = open_plugin(volume.array)
    hands.session.add(_click(first)).result()

    def refuse(*arguments):
        raise InputError("it looks at nothing today.")

    monkeypatch.setattr(backend._models["planar"], "decode", refuse)
    hands.act("compare")
    compared(hands)
    assert texts(hands)[1] == ["Thresholder", "It looks at nothing today."]
    assert "1 without an answer" in hands.message
    choose(hands, "planar")
    assert not hands.panel.comparison.take_button.isEnabled()
    choose(hands, "pixelated")
    assert hands.panel.comparison.take_button.isEnabled()


def test_cancel_keeps_the_answers_that_are_here(open_plugin, scene, backend, monkeypatch):
    volume, first, _ = scene
    hands = open_plugin(volume.array)
    hands.session.add(_click(first)).result()
    hands.settle()
    go, began = threading.Event(), threading.Event()
    decode = backend._models["planar"].decode

    def held(*arguments):
        began.set()
        assert go.wait(20)
        return decode(*arguments)

    monkeypatch.setattr(backend._models["planar"], "decode", held)
    hands.panel.actions_["compare"].click()
    hands.qtbot.waitUntil(began.is_set, timeout=10000)
    hands.qtbot.waitUntil(lambda: len(texts(hands)[0]) == 5, timeout=10000)
    assert texts(hands)[1:] == [["Thresholder", "is asked …"], ["Thresholder", "waits …"]]
    hands.qtbot.waitUntil(lambda: not hands.panel.status.cancel_button.isHidden(), timeout=5000)
    hands.press(hands.panel.status.cancel_button)
    go.set()
    compared(hands)
    rows = texts(hands)
    assert len(rows[0]) == 5 and rows[1][1] == rows[2][1] == "Stopped."


def test_there_must_be_something_to_compare(open_plugin, scene):
    hands = open_plugin(scene[0].array)
    hands.act("compare")
    assert "no object yet" in hands.message
    hands.press(hands.panel.objects.new_button)
    hands.settle()
    hands.act("compare")
    assert "no prompts" in hands.message and hands.panel.comparison.isHidden()


def _click(mask: np.ndarray):
    from napari_sammed.prompts import Point

    return Point(tuple(map(float, middle(mask))))


def test_the_map_is_no_image_to_segment(open_plugin, scene):
    volume, first, _ = scene
    hands = open_plugin(volume.array, scale=(3, 1, 1))
    hands.mode("positive")
    hands.writer.points.add(middle(first))
    hands.settle()
    hands.act("compare")
    compared(hands)
    assert hands.segmentation.comparison.map in hands.viewer.layers
    assert hands.panel.image_section.image.count() == 1
    hands.viewer.layers.remove(hands.segmentation.image)
    hands.qtbot.wait(100)
    assert hands.segmentation is None
