"""Saving all frames of a layer: in one file, in a file a frame, from sessions that are open and from journals."""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest
from qtpy.QtWidgets import QFileDialog, QMessageBox

from napari_sammed.plugin.sessions import frame_journals
from napari_sammed.volume import read_volume
from tests.plugin.test_frames import blobs, click, go, middle


def choose(hands, *keys: str) -> None:
    for key in keys:
        hands.panel.save_options.entries[key].trigger()


def save(hands, path, said: str = "Saved the objects of") -> str:
    hands.panel.save_wanted.emit(path)
    hands.qtbot.waitUntil(lambda: said in hands.message, timeout=10000)
    return hands.message


def mark(hands, masks, *frames: int, axis: int = 0) -> None:
    for frame in frames:
        go(hands, axis, frame)
        hands.mode("positive")
        click(hands, middle(masks[frame]))


@pytest.fixture
def series(open_plugin):
    """Four volumes; the ball is marked on frames 0 and 2, and frame 2 is shown."""
    array, masks = blobs(4, (10, 24, 30))
    hands = open_plugin(array, scale=(5, 3, 1, 0.5), translate=(2, 0, 4, 0), name="beat")
    mark(hands, masks, 0, 2)
    return hands, array, masks


def test_all_frames_are_saved_in_one_file(series, tmp_path, monkeypatch):
    hands, _, masks = series
    options = hands.panel.save_options
    assert options.frames == "together" and options.text() == "All frames", "for there are objects on two"
    grid = hands.session.image.grid
    titles = []
    path = tmp_path / "beat.nii.gz"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *a: titles.append(a[1]) or (str(path), ""))
    hands.panel.actions_["save"].click()
    hands.qtbot.waitUntil(lambda: hands.message == f"Saved the objects of 2 frames to {path}.")
    assert titles == ["Save all objects, all frames"]
    for frame in range(4):
        image = read_volume(path, frame=frame)
        np.testing.assert_array_equal(image.array == 1, masks[frame] if frame in (0, 2) else np.zeros_like(masks[0]))
        np.testing.assert_allclose(image.grid.affine, grid.affine, atol=1e-5)
    assert json.loads((tmp_path / "beat.nii.gz.json").read_text()) == {"labels": {"1": "Object 1"}}


def test_frames_of_another_day_are_found(series, open_plugin, sessions, tmp_path):
    hands, array, masks = series
    hands.session.rename(1, "apex")
    hands.settle()
    hands.widget.coordinator.close(wait=True)
    assert len(list(sessions.glob("*.jsonl"))) == 2
    again = open_plugin(array.copy(), scale=(5, 3, 1, 0.5), translate=(2, 0, 4, 0))
    go(again, 0, 3)
    assert again.panel.save_options.frames == "this" and not again.session.objects
    choose(again, "together", "table")
    save(again, tmp_path / "beat.nrrd")
    np.testing.assert_array_equal(read_volume(tmp_path / "beat.nrrd", frame=0).array, masks[0])
    np.testing.assert_array_equal(read_volume(tmp_path / "beat.nrrd", frame=2).array, 2 * masks[2])
    names = json.loads((tmp_path / "beat.nrrd.json").read_text())
    assert names == {"labels": {"1": "Object 1", "2": "apex"}}, "one label, but two names"
    rows = (tmp_path / "beat.csv").read_text(encoding="utf-8-sig").splitlines()
    assert rows[1:] == [
        f"{value},{name},,{frame},{masks[frame].sum()},{masks[frame].sum() * 1.5:.6g}"
        for value, name, frame in ((1, "Object 1", 0), (2, "apex", 2))
    ]


def test_an_object_that_was_copied_on_keeps_its_value(series, tmp_path):
    hands, _, masks = series
    go(hands, 0, 0)
    hands.session.rename(1, "atrium")
    hands.settle()
    hands.press(hands.panel.frames.copy_button)
    hands.settle()
    assert hands.segmentation.view.at == (1,)
    save(hands, tmp_path / "beat.ome.zarr")
    for frame, wanted in enumerate((masks[0], masks[0], 2 * masks[2], 0 * masks[0])):
        np.testing.assert_array_equal(read_volume(tmp_path / "beat.ome.zarr", frame=frame).array, wanted)


def test_a_file_a_frame_and_an_object(series, tmp_path, monkeypatch):
    hands, _, masks = series
    hands.session.rename(1, "apex")
    choose(hands, "apart", "each")
    assert hands.panel.save_options.text() == "File a frame, each"
    (tmp_path / "beat_apex_t002.nii.gz").write_bytes(b"somebody's work")
    asked = []
    no, yes = QMessageBox.StandardButton.No, QMessageBox.StandardButton.Yes
    monkeypatch.setattr(QMessageBox, "question", lambda *a: asked.append(a[2]) or (yes if len(asked) > 1 else no))
    save(hands, tmp_path / "beat.nii.gz", "Nothing more was saved")
    assert (tmp_path / "beat_apex_t002.nii.gz").read_bytes() == b"somebody's work" and "apex_t002" in asked[0]
    assert "2 files in" in save(hands, tmp_path / "beat.nii.gz")
    files = sorted(path.name for path in tmp_path.glob("*.nii.gz"))
    assert files == ["beat_Object_1_t000.nii.gz", "beat_apex_t002.nii.gz"]
    np.testing.assert_array_equal(read_volume(tmp_path / files[1]).array, masks[2])


def test_the_choice_of_frames_follows_the_layer(series, open_plugin):
    hands, _, _ = series
    options = hands.panel.save_options
    choose(hands, "this")
    go(hands, 0, 0)
    assert options.frames == "this", "what the user picked stays"
    hands.viewer.add_image(blobs(2, (10, 24, 30))[0][0])
    hands.viewer.layers.remove(hands.segmentation.image)
    hands.settle()
    assert options.frames == "this" and not options.entries["together"].isVisible()
    one = open_plugin(blobs(3, (24, 30))[0], axis_labels=("t", "y", "x"))
    mark(one, blobs(3, (24, 30))[1], 1)
    assert one.panel.save_options.frames == "this", "objects on one frame only"


def test_channels_without_objects_need_no_axis(open_plugin, tmp_path):
    array, masks = blobs(3, (24, 30))
    both = np.stack([array[::-1] + 1, array], axis=1)  # equal frames are one
    hands = open_plugin(both, axis_labels=("t", "c", "y", "x"))
    hands.viewer.dims.set_point(1, 1)
    mark(hands, masks, 0, 2)
    save(hands, tmp_path / "cells.tif")
    np.testing.assert_array_equal(read_volume(tmp_path / "cells.tif").array, [masks[0], 0 * masks[1], masks[2]])
    go(hands, 1, 0)
    click(hands, middle(masks[0]))
    save(hands, tmp_path / "more.tif", "save all frames as a file each")
    choose(hands, "apart")
    save(hands, tmp_path / "more.tif")
    files = sorted(path.name for path in tmp_path.glob("more*.tif"))
    assert files == ["more_t000_c1.tif", "more_t002_c0.tif", "more_t002_c1.tif"]


def test_looking_for_frames_can_be_cancelled_and_says_how_far(series, tmp_path, monkeypatch):
    hands, _, masks = series
    gate, reached, real = threading.Event(), threading.Event(), frame_journals.volume_of
    monkeypatch.setattr(frame_journals, "volume_of", lambda view: (reached.set(), gate.wait(10), real(view))[2])
    hands.panel.save_wanted.emit(tmp_path / "beat.nii.gz")
    hands.qtbot.waitUntil(reached.is_set)
    hands.qtbot.waitUntil(lambda: "Looking for the objects of frame 0 (1 of 4)" in hands.message)
    assert not hands.panel.status.cancel_button.isHidden()
    go(hands, 0, 0)
    np.testing.assert_array_equal(hands.labels > 0, masks[0], "frames open meanwhile")
    hands.panel.status.cancel_button.click()
    gate.set()
    hands.qtbot.waitUntil(lambda: "Nothing more was saved" in hands.message)
    assert not list(tmp_path.glob("beat*")) and hands.panel.status.cancel_button.isHidden()


@pytest.mark.parametrize("name, said", [("a.dcm", "DICOM"), ("a.png", "PNG"), ("a", "no format to write")])
def test_what_cannot_hold_frames_is_refused_at_once(series, tmp_path, name, said):
    hands, _, _ = series
    save(hands, tmp_path / name, said)
    save(hands, tmp_path / "fine.nii.gz")


def test_a_damaged_journal_is_told_and_nothing_is_written(series, open_plugin, sessions, tmp_path):
    hands, array, _ = series
    hands.widget.coordinator.close(wait=True)
    for journal in sessions.glob("*.jsonl"):
        journal.write_bytes(journal.read_bytes().replace(b'"do"', b'"od"'))
    again = open_plugin(array, scale=(5, 3, 1, 0.5), translate=(2, 0, 4, 0))
    choose(again, "together")
    assert "Go to frame 0 once" in save(again, tmp_path / "beat.nii.gz", "session file")
    assert not list(tmp_path.glob("beat*"))


def test_without_any_object_there_is_nothing_to_save(open_plugin, tmp_path, monkeypatch):
    hands = open_plugin(blobs(3, (24, 30))[0], axis_labels=("t", "y", "x"))
    choose(hands, "together")
    monkeypatch.setattr(frame_journals, "volume_of", lambda view: pytest.fail("no frame need be read"))
    monkeypatch.setattr(frame_journals, "_images_of", lambda shape: set())
    save(hands, tmp_path / "beat.nii.gz", "There is nothing to save")


def test_frames_of_the_same_file_are_remembered(open_plugin, tmp_path):
    array, masks = blobs(3, (24, 30))
    about = {"axis_labels": ("t", "y", "x"), "metadata": {"read_with": {"path": str(tmp_path / "cells.tif")}}}
    hands = open_plugin(array, **about)
    mark(hands, masks, 2)
    hands.widget.coordinator.close(wait=True)
    again = open_plugin(array, **about)
    again.qtbot.waitUntil(lambda: again.panel.save_options.frames == "together")
    go(again, 0, 2)
    assert again.panel.save_options.frames == "this", "the only frame with objects is shown"
