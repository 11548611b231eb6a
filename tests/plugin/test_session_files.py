"""Going on, starting afresh, bringing back, session files in and out: by the panel's bar and its session menu."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from npe2 import PluginManager, PluginManifest
from qtpy.QtWidgets import QFileDialog

import napari_sammed
from napari_sammed.cli import main
from napari_sammed.messages import when
from napari_sammed.plugin.features import session_files
from napari_sammed.plugin.sessions.journals import journal_of
from napari_sammed.plugin.views.session_files import EarlierSessions
from napari_sammed.prompts import Point
from napari_sammed.session import Session
from napari_sammed.volume import Volume, read_volume, write_volume
from tests.phantoms import two_balls


def middle(mask: np.ndarray) -> tuple[int, ...]:
    return tuple(np.argwhere(mask).mean(0).round().astype(int).tolist())


@pytest.fixture(autouse=True)
def plugin() -> None:
    """napari's own fixtures hide installed plugins."""
    if "napari-sammed" not in PluginManager.instance():
        manifest = PluginManifest.from_file(Path(napari_sammed.__file__).with_name("napari.yaml"))
        PluginManager.instance().register(manifest)


@pytest.fixture
def scene():
    volume, first, second = two_balls()
    return np.array(volume.array), first, second


@pytest.fixture
def hands(open_plugin, scene):
    """With one object, of which a first session knew; the layer is opened anew."""
    hands = open_plugin(scene[0], name="scan")
    click(hands, middle(scene[1]))
    return again(hands, scene[0])


def click(hands, index) -> None:
    hands.mode("positive")
    hands.writer.points.add(index)
    hands.settle()


def again(hands, array, wait: bool = True, **layer):
    """Throw all layers away and open the image again."""
    hands.viewer.layers.clear()
    hands.settle()
    hands.viewer.add_image(array.copy(), name="scan", **layer)
    if wait:
        hands.settle()
    else:
        hands.qtbot.waitUntil(lambda: not hands.panel.offers.isHidden(), timeout=10_000)
    return hands


def offered(hands) -> list[str]:
    return [] if hands.panel.offers.isHidden() else list(hands.panel.offers.buttons)


def answer(hands, key: str) -> None:
    hands.panel.offers.buttons[key].click()  # a panel that is not shown has no place to press on
    hands.settle()


def choose(hands, key: str) -> None:
    hands.panel.session_button.entries[key].trigger()
    hands.settle()


def test_what_was_found_is_said_and_any_prompt_goes_on(hands, scene):
    _, first, second = scene
    assert offered(hands) == ["continue", "afresh"]
    text = hands.panel.offers.text.text()
    assert text.startswith("Found 1 object (Object 1), last changed today ")
    np.testing.assert_array_equal(hands.labels == 1, first)
    click(hands, middle(second))
    assert offered(hands) == []
    np.testing.assert_array_equal(hands.labels == 1, first | second)


def test_continue_takes_the_bar_away_and_nothing_else(hands, scene):
    before = hands.session
    answer(hands, "continue")
    assert offered(hands) == [] and hands.session is before
    np.testing.assert_array_equal(hands.labels == 1, scene[1])


def test_an_image_that_was_never_worked_on_offers_nothing(open_plugin, scene):
    assert offered(open_plugin(scene[0])) == []


def test_the_bar_goes_with_its_image(hands, scene):
    hands.viewer.layers.clear()
    hands.settle()
    assert offered(hands) == []


def test_started_afresh_and_brought_back(hands, scene, sessions):
    _, first, second = scene
    answer(hands, "afresh")
    assert not hands.session.objects and offered(hands) == []
    assert [type(layer).__name__ for layer in hands.viewer.layers] == ["Image", "Labels"] and not hands.labels.any()
    (archived,) = (sessions / "archive").iterdir()
    click(hands, middle(second))
    np.testing.assert_array_equal(hands.labels == 1, second)

    choose(hands, "earlier")
    hands.qtbot.waitUntil(lambda: bool(hands.panel.findChildren(EarlierSessions)))
    (dialog,) = hands.panel.findChildren(EarlierSessions)
    assert dialog.list.count() == 1 and "1 object (Object 1)" in dialog.list.item(0).text()
    hands.press(dialog.button)
    hands.settle()
    np.testing.assert_array_equal(hands.labels == 1, first)
    assert not archived.exists() and len(list((sessions / "archive").iterdir())) == 1, "the second one went there"
    assert len(hands.session.objects[1].prompts) == 1


def test_the_list_of_earlier_sessions_goes_with_its_image(hands, scene):
    answer(hands, "afresh")
    choose(hands, "earlier")
    hands.qtbot.waitUntil(lambda: bool(hands.panel.findChildren(EarlierSessions)))
    (dialog,) = hands.panel.findChildren(EarlierSessions)
    hands.viewer.add_image(scene[0] + 1, name="other")
    chooser = hands.panel.image_section.image
    chooser.activated.emit(chooser.findText("other"))
    assert not dialog.isVisible() and hands.session is None
    hands.settle()
    assert not hands.session.objects


def test_without_earlier_sessions_the_list_says_so(open_plugin, scene):
    hands = open_plugin(scene[0])
    choose(hands, "earlier")
    hands.qtbot.waitUntil(lambda: "has been set aside" in hands.message)


def test_a_damaged_session_is_rescued_and_kept(open_plugin, scene, sessions):
    hands = open_plugin(scene[0])
    for mask in scene[1:]:
        click(hands, middle(mask))
    path = journal_of(hands.session.image.hash)
    hands.viewer.layers.clear()
    hands.settle()
    lines = path.read_bytes().splitlines(keepends=True)
    lines[-2] = b"\x00" * 30 + b"\n"
    path.write_bytes(b"".join(lines))
    again(hands, scene[0])
    text = hands.panel.offers.text.text()
    (kept,) = (sessions / "archive").iterdir()
    assert "was damaged" in text and "1 object (Object 1) could be rescued, 2 entries could not" in text
    assert str(kept) in text and kept.read_bytes() == b"".join(lines)
    np.testing.assert_array_equal(hands.labels == 1, scene[1])


def test_a_session_in_another_window_can_be_looked_at_and_goes_on_by_itself(hands, scene, backend, monkeypatch):
    monkeypatch.setattr(session_files, "_AGAIN", 100)
    hands.widget.coordinator._files._again.setInterval(100)
    image = hands.session.image
    hands.viewer.layers.clear()
    hands.settle()
    hands.qtbot.wait(100)
    other = Session(image, backend, journal=journal_of(image.hash))
    again(hands, scene[0], wait=False)
    assert offered(hands) == ["look", "retry"]
    assert "Another window works on this image" in hands.panel.offers.text.text()
    assert not hands.panel.actions_["undo"].isEnabled()
    answer(hands, "look")
    np.testing.assert_array_equal(hands.labels == 1, scene[1])
    assert "Only for looking" in hands.panel.status.warning.text()
    click(hands, middle(scene[2]))
    assert "looking only" in hands.message and len(hands.writer.points.data) == 1
    np.testing.assert_array_equal(hands.labels == 1, scene[1])
    other.model = "thresholder"
    other.add(Point(middle(scene[2]))).result(10)
    other.close()
    hands.qtbot.waitUntil(lambda: hands.session is not None and not hands.session.read_only, timeout=10_000)
    hands.settle()
    np.testing.assert_array_equal(hands.labels == 1, scene[1] | scene[2])
    assert not hands.panel.status.warning.text()


def test_a_folder_that_cannot_be_written_is_named_and_tried_again(open_plugin, scene, sessions):
    sessions.parent.mkdir(exist_ok=True)
    sessions.write_text("a file where the folder should be")
    hands = open_plugin()
    again(hands, scene[0], wait=False)
    assert offered(hands) == ["retry"] and "cannot be written" in hands.panel.offers.text.text()
    sessions.unlink()
    answer(hands, "retry")
    click(hands, middle(scene[1]))
    np.testing.assert_array_equal(hands.labels == 1, scene[1])


@pytest.fixture
def changed_file(open_plugin, scene, tmp_path):
    """An image file that was segmented, and then written again with other voxels."""
    path = tmp_path / "scan.nii.gz"
    write_volume(Volume(scene[0], two_balls()[0].grid), path)
    hands = open_plugin()
    hands.viewer.open(str(path), plugin="napari-sammed")
    hands.settle()
    click(hands, middle(scene[1]))
    hands.panel.objects.wanted.emit("rename", [1], "kidney")
    hands.settle()

    def open_(array: np.ndarray):
        hands.viewer.layers.clear()
        hands.settle()
        write_volume(Volume.from_array(array), path)
        hands.viewer.open(str(path), plugin="napari-sammed")
        hands.settle()
        return hands

    return open_


def test_objects_of_a_file_that_has_changed_are_brought_in(changed_file, scene):
    hands = changed_file(scene[0] + 1)
    assert offered(hands) == ["bring", "adopt", "leave"] and not hands.session.objects
    assert "has changed since 1 object (kidney)" in hands.panel.offers.text.text()
    answer(hands, "bring")
    hands.qtbot.waitUntil(lambda: "Brought 1 object over" in hands.message)
    hands.settle()
    np.testing.assert_array_equal(hands.labels == 1, scene[1])
    assert hands.session.objects[1].name == "kidney" and not hands.session.objects[1].prompts


def test_prompts_of_a_file_that_has_changed_are_gone_on_with(changed_file, scene):
    hands = changed_file(scene[0] + 1)
    answer(hands, "adopt")
    np.testing.assert_array_equal(hands.labels == 1, scene[1])
    hands.mode("positive")
    assert len(hands.writer.points.data) == 1
    click(hands, middle(scene[2]))
    np.testing.assert_array_equal(hands.labels == 1, scene[1] | scene[2])


def test_a_file_of_another_shape_says_why_its_objects_are_of_no_use(changed_file, scene):
    hands = changed_file(scene[0][:-1])
    assert offered(hands) == ["leave"] and "its shape is 20 x 40 x 50" in hands.panel.offers.text.text()


def test_a_saved_session_is_replayed_at_the_command_line(open_plugin, tmp_path, monkeypatch, capsys):
    volume, first, _ = two_balls()
    image = tmp_path / "scan.nii.gz"
    write_volume(volume, image)
    hands = open_plugin()
    hands.viewer.open(str(image), plugin="napari-sammed")
    hands.settle()
    hands.session.model = "random-walker"
    hands.session.add(Point(middle(first))).result(60)
    hands.settle()
    path = tmp_path / "scan.sammed.jsonl"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *a: (str(path)[: -len(".sammed.jsonl")], ""))
    choose(hands, "save")
    hands.qtbot.waitUntil(lambda: hands.message == f"Saved the session to {path}.")
    assert main(["replay", str(path), "-o", str(tmp_path / "mask.nii.gz"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["identical"] is True
    np.testing.assert_array_equal(read_volume(tmp_path / "mask.nii.gz").array, hands.labels)
    assert hands.labels.any()


def test_a_session_of_the_command_line_opens(open_plugin, tmp_path, monkeypatch, sessions):
    volume, first, second = two_balls()
    image, path = tmp_path / "scan.nii.gz", tmp_path / "cli.jsonl"
    write_volume(volume, image)
    z, y, x = middle(first)
    arguments = ["--point", f"{x},{y},{z}", "--model", "random-walker", "--session", str(path)]
    assert main(["segment", str(image), "-o", str(tmp_path / "mask.nii.gz"), *arguments]) == 0
    kept = path.read_bytes()
    hands = open_plugin()
    hands.viewer.open(str(image), plugin="napari-sammed")
    hands.settle()
    click(hands, middle(second))  # work of one's own, which must not get lost
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *a: (str(path), ""))
    choose(hands, "open")
    hands.qtbot.waitUntil(lambda: offered(hands) == ["copy", "itself", "leave"])
    answer(hands, "copy")
    np.testing.assert_array_equal(hands.labels, read_volume(tmp_path / "mask.nii.gz").array)
    hands.mode("positive")
    np.testing.assert_array_equal(hands.writer.points.data, [middle(first)])
    assert len(list((sessions / "archive").iterdir())) == 1
    click(hands, middle(second))
    assert path.read_bytes() == kept, "the file itself stays as it is"

    choose(hands, "open")
    hands.qtbot.waitUntil(lambda: offered(hands) == ["copy", "itself", "leave"])
    answer(hands, "itself")
    click(hands, middle(second))
    assert path.read_bytes().startswith(kept) and len(path.read_bytes()) > len(kept)


def test_what_is_no_session_file_is_refused(hands, tmp_path):
    (tmp_path / "notes.jsonl").write_text("hello\n")
    answer(hands, "continue")
    hands.panel.session_button.open_wanted.emit(tmp_path / "notes.jsonl")
    hands.qtbot.waitUntil(lambda: "not JSON" in hands.message)
    hands.panel.session_button.open_wanted.emit(tmp_path / "absent.jsonl")
    hands.qtbot.waitUntil(lambda: "cannot be read" in hands.message)
    assert offered(hands) == [] and hands.session.objects


@pytest.mark.parametrize(
    ("moment", "said"),
    [
        (datetime(2026, 5, 3, 14, 3), "today 14:03"),
        (datetime(2026, 5, 2, 23, 59), "yesterday 23:59"),
        (datetime(2026, 4, 1, 9, 5), "on 1 April 2026 09:05"),
    ],
)
def test_moments_are_said_as_people_do(moment, said):
    assert when(moment, datetime(2026, 5, 3, 18, 0)) == said


def test_in_a_window_the_bar_is_pressed_and_the_canvas_clicked(open_plugin, scene):
    hands = open_plugin(scene[0], show=True, name="scan")
    hands.mode("positive")
    hands.click(middle(scene[1]))
    hands.session.rename(1, "kidney")
    hands.widget.coordinator.choose_image(hands.segmentation.image)
    hands.settle()
    bar = hands.panel.offers
    assert bar.isVisible() and "1 object (kidney)" in bar.text.text()
    for _ in range(2):  # the layers are those of before, emptied: napari dies when several go at once and come again
        hands.press(bar.buttons["afresh"]) if bar.isVisible() else choose(hands, "afresh")
        hands.settle()
        assert not bar.isVisible() and not hands.session.objects
        hands.mode("positive")
        hands.click(middle(scene[2]))
        np.testing.assert_array_equal(hands.labels == 1, scene[2])
