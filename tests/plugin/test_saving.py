"""Saving as the panel says: one label image or one file an object, the table, and the word about what is saved."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from qtpy.QtWidgets import QFileDialog, QMessageBox

from napari_sammed.plugin.settings import memory
from napari_sammed.plugin.settings.memory import Memory
from napari_sammed.plugin.views.saving import SaveOptions
from napari_sammed.volume import read_volume, write_volume
from tests.phantoms import two_balls


def middle(mask: np.ndarray) -> tuple[int, ...]:
    return tuple(np.argwhere(mask).mean(0).round().astype(int).tolist())


@pytest.fixture
def scene():
    volume, first, second = two_balls()
    return np.array(volume.array), first, second


@pytest.fixture
def hands(open_plugin, scene, tmp_path, monkeypatch):
    """With two objects, and a dialog that names a file in the test's folder."""
    monkeypatch.setenv(memory.FOLDER_VARIABLE, str(tmp_path / "config"))
    hands = open_plugin(scene[0], name="scan")
    hands.mode("positive")
    for number, (mask, name) in enumerate(zip(scene[1:], ("left kidney", "spleen"), strict=True), 1):
        hands.segmentation.new_object()
        hands.writer.points.add(middle(mask))
        hands.settle()
        hands.session.rename(number, name)
    hands.settle()
    (tmp_path / "out").mkdir()
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *a: (str(tmp_path / "out" / "scan.nii.gz"), ""))
    return hands


def choose(hands, *keys: str) -> None:
    for key in keys:
        hands.panel.save_options.entries[key].trigger()


def save(hands, said: str) -> None:
    hands.panel.actions_["save"].click()
    hands.qtbot.waitUntil(lambda: said in hands.message)


def test_one_file_an_object_and_the_table(hands, scene, tmp_path):
    choose(hands, "each", "table")
    save(hands, "Saved 2 files to")
    out = tmp_path / "out"
    assert sorted(p.name for p in out.iterdir()) == ["scan.csv", "scan_left_kidney.nii.gz", "scan_spleen.nii.gz"]
    np.testing.assert_array_equal(read_volume(out / "scan_left_kidney.nii.gz").array == 1, scene[1])
    np.testing.assert_array_equal(read_volume(out / "scan_spleen.nii.gz").array == 1, scene[2])
    assert "left kidney" in (out / "scan.csv").read_text(encoding="utf-8-sig")


@pytest.mark.parametrize("yes", [True, False])
def test_files_are_replaced_only_after_a_yes(hands, tmp_path, monkeypatch, yes):
    choose(hands, "each")
    path = tmp_path / "out" / "scan_spleen.nii.gz"
    path.write_bytes(b"somebody's work")
    asked = []
    answer = QMessageBox.StandardButton.Yes if yes else QMessageBox.StandardButton.No
    monkeypatch.setattr(QMessageBox, "question", lambda *a: asked.append(a[2]) or answer)
    save(hands, "Saved 2 files" if yes else "Nothing was saved")
    assert len(asked) == 1 and "scan_spleen.nii.gz" in asked[0]
    assert (path.read_bytes() == b"somebody's work") is not yes


def test_the_image_itself_is_never_overwritten(open_plugin, tmp_path, qtbot):
    write_volume(two_balls()[0], tmp_path / "scan.nii.gz")
    before = (tmp_path / "scan.nii.gz").read_bytes()
    hands = open_plugin()
    from npe2 import PluginManager, PluginManifest

    import napari_sammed

    if "napari-sammed" not in PluginManager.instance():
        PluginManager.instance().register(
            PluginManifest.from_file(Path(napari_sammed.__file__).with_name("napari.yaml"))
        )
    hands.viewer.open(str(tmp_path / "scan.nii.gz"), plugin="napari-sammed")
    hands.settle()
    hands.segmentation.save(tmp_path / "scan.nii.gz")
    qtbot.waitUntil(lambda: "is the image itself" in hands.message)
    assert (tmp_path / "scan.nii.gz").read_bytes() == before


def test_the_panel_says_whether_the_objects_are_saved(hands):
    note = hands.panel.saved
    assert note.isHidden()
    save(hands, "Saved to")
    assert note.text().startswith("Saved to") and not note.isHidden()
    hands.session.rename(1, "kidney")
    hands.settle()
    assert note.text().startswith("Changed since they were saved to")
    hands.act("undo")
    assert note.text().startswith("Saved to")


def test_the_last_choice_is_remembered(hands, open_plugin):
    choose(hands, "each", "table")
    again = open_plugin().panel.save_options
    assert again.each and again.table and again.text() == "Each + table"
    assert json.loads(Memory().path.read_text())["saving"] == {"each": True, "table": True}


def test_a_memory_without_sense_changes_nothing(qtbot):
    options = SaveOptions()
    qtbot.addWidget(options)
    for nonsense in (None, 3, [], {"each": "x"}, {}):
        options.set_chosen(nonsense)
        assert not options.each and not options.table and options.text() == "One file"
