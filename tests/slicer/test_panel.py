"""The module's panel on a real Qt: opened, every button pressed, driven from a click to a segment, looked at.

``SLICER_SHOTS`` names a folder that keeps pictures of it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import types
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed: pip install 'napari-sammed[slicer]'")
pytest.importorskip("PyQt6", reason="no Qt for the panel: pip install 'napari-sammed[napari]'")

import slicer
import vtk
from PyQt6 import QtCore, QtWidgets
from PyQt6.QtTest import QTest
from SammedLib import diagnosis, volumes
from SammedLib.placing import interaction
from SammedLib.presenter import Presenter

from napari_sammed.backend.local import LocalBackend
from tests.plugin.ambiguous import Ambiguous
from tests.slicer.pythonqt import ROOT, stand_ins
from tests.slicer.scenes import OBLIQUE, add_volume, blobs, matrix, segment_mask
from tests.thresholder import Thresholder

LEFT, MIDDLE, BELOW = ((blobs() == value) for value in (300, 500, 700))
IN_LEFT, IN_MIDDLE, IN_BELOW = ((4, 5, 6), (4, 5, 8), (4, 8, 6))


class Panel:
    """The widget, and hands to use it."""

    def __init__(self, module, models, qtbot) -> None:
        class Widget(module.SammedWidget):
            def _make_presenter(self):
                return Presenter(self, lambda: LocalBackend("cpu", models=models))

        self.window = QtWidgets.QMainWindow()
        parent = QtWidgets.QWidget()
        QtWidgets.QVBoxLayout(parent)
        self.window.setCentralWidget(parent)
        self.window.resize(400, 1000)
        self.module = module
        self.qtbot = qtbot
        self.main_window = parent
        self.widget = Widget(parent)
        self.widget.setup()
        self.widget.enter()
        self.window.show()

    @property
    def ui(self):
        return self.widget.ui

    @property
    def logic(self):
        return self.widget.presenter.logic

    def choose(self, volume, model: str = "thresholder") -> None:
        """The user picks a volume; the test picks a model that no list has."""
        self.widget._parameters.model = model
        self.ui.volumeSelector.widget.pick(volume)
        self.settle()

    def press(self, name: str) -> None:
        button = getattr(self.ui, name).widget
        assert button.isEnabled(), name
        QTest.mouseClick(button, QtCore.Qt.MouseButton.LeftButton)

    def place(self, index) -> None:
        """Put a control point where the view would: into the node that is being placed in."""
        node = slicer.mrmlScene.GetNodeByID(selection().GetActivePlaceNodeID())
        node.AddControlPoint(vtk.vtkVector3d(*volumes.to_world(self.logic.volume, [index])[0]))

    def settle(self, seconds: float = 60) -> None:
        """Let the panel's own timer deliver everything."""
        end = time.monotonic() + seconds
        quiet = 0
        while quiet < 12:
            assert time.monotonic() < end, "no answer in time"
            self.qtbot.wait(25)
            quiet = 0 if self.widget.presenter.busy else quiet + 1

    def masks(self) -> list[np.ndarray]:
        segmentation = self.logic.segmentation
        ids = segmentation.GetSegmentation().GetSegmentIDs()
        return [segment_mask(segmentation, segment_id, self.logic.volume) for segment_id in ids]

    @property
    def message(self) -> str:
        return self.ui.messageLabel.text

    def picture(self, name: str) -> QtWidgets.QWidget:
        image = self.window.grab()
        folder = os.environ.get("SLICER_SHOTS")
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            assert image.save(str(Path(folder) / f"{name}.png"))
        return image


def selection():
    return slicer.mrmlScene.GetNodeByID("vtkMRMLSelectionNodeSingleton")


def same(found, *expected) -> bool:
    return len(found) == len(expected) and all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.fixture
def answers() -> dict:
    return {}


@pytest.fixture
def panel(scene, qtbot, answers, monkeypatch):
    monkeypatch.setattr(slicer.app, "connect", lambda *_: None, raising=False)
    monkeypatch.setattr(slicer.app, "applicationVersion", "5.12.0", raising=False)
    window = QtWidgets.QMainWindow()
    with stand_ins(answers, window) as module:
        panel = Panel(
            module,
            {"thresholder": Thresholder(), "planar": Thresholder(planar=True), "ambiguous": Ambiguous()},
            qtbot,
        )
        panel.main_window = window
        yield panel
        panel.widget.cleanup()
        panel.window.close()


@pytest.fixture
def volume(scene):
    return add_volume(blobs(), matrix(OBLIQUE))


def test_from_a_click_to_a_segment(panel, volume):
    panel.choose(volume)
    assert panel.logic.segmentation is panel.ui.segmentationSelector.currentNode()
    panel.press("positiveButton")
    assert interaction(slicer.mrmlScene).GetCurrentInteractionMode() == interaction(slicer.mrmlScene).Place
    panel.place(IN_LEFT)
    panel.settle()
    assert same(panel.masks(), LEFT)
    assert re.match(r"Segment_1: .* score 0\.90", panel.message)
    panel.place(IN_BELOW)
    panel.settle()
    assert same(panel.masks(), LEFT | BELOW)
    panel.press("nextButton")
    panel.place(IN_MIDDLE)
    panel.settle()
    assert same(panel.masks(), LEFT | BELOW, MIDDLE)
    assert list(panel.ui.segmentsTable.selectedSegmentIDs()) == [panel.logic.segment_id]
    panel.picture("panel")


def test_every_button_is_pressed(panel, volume, answers, monkeypatch):
    """Before anything is open, and after; none raises, whatever the order."""
    skipped = {"folderButton", "certificateButton"}  # open windows of the system
    monkeypatch.setattr(diagnosis, "full_report", lambda: "all is well")
    names = [name for name in vars(panel.ui) if name.endswith("Button") and name not in skipped]
    assert len(names) == 24
    for opened in (False, True):
        if opened:
            panel.choose(volume)
        for name in names:
            getattr(panel.ui, name).widget.click()
            tool = panel.widget.presenter.placing.tool
            assert tool == (panel.module.TOOLS.get(name, tool) if opened else "")
        panel.settle()
        assert panel.ui.reportText.widget.toPlainText() == "all is well"
    assert "asked" not in answers  # everything is installed, and nothing was fetched


def test_undo_redo_and_the_points_follow(panel, volume):
    panel.choose(volume)
    panel.press("positiveButton")
    panel.place(IN_LEFT)
    panel.settle()
    panel.place(IN_BELOW)
    panel.settle()
    points = slicer.mrmlScene.GetNodeByID(selection().GetActivePlaceNodeID())
    assert points.GetNumberOfControlPoints() == 2
    panel.press("undoButton")
    panel.settle()
    assert same(panel.masks(), LEFT)
    assert points.GetNumberOfControlPoints() == 1
    panel.press("redoButton")
    panel.settle()
    assert same(panel.masks(), LEFT | BELOW)
    assert points.GetNumberOfControlPoints() == 2


def test_points_are_moved_and_deleted(panel, volume):
    panel.choose(volume)
    panel.press("positiveButton")
    for index in (IN_LEFT, IN_BELOW):
        panel.place(index)
        panel.settle()
    points = slicer.mrmlScene.GetNodeByID(selection().GetActivePlaceNodeID())
    points.SetNthControlPointPositionWorld(1, volumes.to_world(volume, [IN_MIDDLE])[0])
    points.InvokeEvent(points.PointEndInteractionEvent, 1)
    panel.settle()
    if len(panel.logic.prompts()) == 2 and same(panel.masks(), LEFT | BELOW):
        pytest.fail("the moved point was not taken over")
    assert same(panel.masks(), LEFT | MIDDLE)
    points.RemoveNthControlPoint(1)
    panel.settle()
    assert same(panel.masks(), LEFT)
    points.RemoveNthControlPoint(0)
    panel.settle()
    assert not panel.masks()[0].any()


def test_negative_points(panel, volume):
    panel.choose(volume)
    panel.press("positiveButton")
    panel.place(IN_LEFT)
    panel.settle()
    panel.press("negativeButton")
    assert not panel.ui.positiveButton.widget.isChecked()
    panel.place((4, 5, 5))
    panel.settle()
    assert [prompt.positive for prompt in panel.logic.prompts()] == [True, False]
    assert same(panel.masks(), np.zeros(LEFT.shape, bool))
    assert "is empty" in panel.message


@pytest.mark.parametrize("button", ["boxButton", "lassoButton", "strokeButton", "regionButton"])
def test_drawings(panel, scene, button):
    volume = add_volume(blobs(), matrix(np.eye(3)))
    panel.choose(volume)
    if button == "regionButton":
        panel.press("positiveButton")
        panel.place(IN_LEFT)
        panel.settle()
    panel.ui.sliceBoxes.widget.setChecked(False)
    assert panel.widget.presenter.slice_boxes is False
    panel.press(button)
    node = slicer.mrmlScene.GetNodeByID(selection().GetActivePlaceNodeID())
    if button in ("boxButton", "regionButton"):
        corners = volumes.to_world(volume, [(1.6, 2.6, 3.6), (6.4, 7.4, 6.4)])
        node.SetCenterWorld(corners.mean(0))
        node.SetSizeWorld(np.ptp(corners, axis=0))
    else:
        for index in ((4, 4, 5), (4, 7, 5)) + (((4, 7, 6), (4, 4, 6)) * (button == "lassoButton")):
            panel.place(index)
    interaction(slicer.mrmlScene).SetCurrentInteractionMode(interaction(slicer.mrmlScene).ViewTransform)
    panel.settle()
    assert not getattr(panel.ui, button).widget.isChecked()
    assert node.GetScene() is None  # the drawing has done its work
    found = panel.masks()
    assert len(found) == 1 and (found[0] & LEFT).any(), panel.message
    if button == "strokeButton":
        assert same(found, LEFT)


def test_a_point_outside_is_refused_in_words_and_taken_away(panel, volume):
    panel.choose(volume)
    panel.press("positiveButton")
    panel.place((400, 5, 6))
    panel.settle()
    assert "outside of the volume CT" in panel.message
    points = slicer.mrmlScene.GetNodeByID(selection().GetActivePlaceNodeID())
    assert points.GetNumberOfControlPoints() == 0


def test_readings(panel, volume):
    panel.choose(volume, "ambiguous")
    panel.press("positiveButton")
    panel.place(IN_LEFT)
    panel.settle()
    assert panel.ui.readingLabel.text == "Reading 1 of 3, score 0.90"
    panel.press("nextReadingButton")
    panel.settle()
    assert panel.ui.readingLabel.text == "Reading 2 of 3, score 0.70"
    panel.press("previousReadingButton")
    assert panel.ui.readingLabel.text.startswith("Reading 1")


def test_choices_go_to_the_scene_and_to_the_logic(panel, volume):
    panel.choose(volume)
    box = panel.ui.windowBox.widget
    box.setCurrentIndex(box.findData("custom"))
    assert panel.ui.customWindow.widget.isVisibleTo(panel.window)
    panel.ui.levelSpin.widget.setValue(300.0)
    parameters = panel.widget.logic.getParameterNode()
    assert (parameters.window, parameters.level) == ("custom", 300.0)
    panel.press("positiveButton")
    panel.place(IN_LEFT)
    panel.settle()
    assert panel.logic.window.values == (300.0, 400.0)
    models = panel.ui.modelBox.widget
    models.setCurrentIndex(models.findData("random-walker"))
    assert panel.logic.model == "random-walker"


def test_shortcuts_live_only_while_the_module_is_entered(panel, volume):
    panel.choose(volume)
    shortcuts = list(panel.widget._shortcuts.set)
    assert len(shortcuts) == 9
    keys = [shortcut.key().toString() for shortcut in shortcuts]
    assert len(set(keys)) == 9 and not {"R", "G", "T", "V", "B", "F"} & set(keys)  # those of slice views
    next(s for s in shortcuts if s.key().toString() == "W").activated.emit()
    assert panel.widget.presenter.placing.tool == "positive"
    next(s for s in shortcuts if s.key().toString() == "W").activated.emit()
    assert panel.widget.presenter.placing.tool == "negative"
    panel.widget.exit()
    assert panel.widget.presenter.placing.tool == ""
    assert panel.widget._shortcuts.set == [] and not any(shortcut.isEnabled() for shortcut in shortcuts)


def test_closing_the_scene(panel, volume, scene):
    panel.choose(volume)
    panel.press("positiveButton")
    panel.place(IN_LEFT)
    scene.Clear(False)  # before the answer
    panel.settle()
    assert panel.logic.volume is None
    again = add_volume(blobs(), matrix(OBLIQUE), "Other")
    panel.choose(again)
    panel.press("positiveButton")
    panel.place(IN_BELOW)
    panel.settle()
    assert same(panel.masks(), BELOW)


def test_switching_volumes_takes_each_to_its_own_segmentation(panel, volume):
    panel.choose(volume)
    first = panel.logic.segmentation
    other = add_volume(blobs()[::-1].copy(), matrix(np.eye(3)), "Other")
    panel.choose(other)
    assert panel.logic.segmentation is not first
    panel.choose(volume)
    assert panel.logic.segmentation is first


def test_nothing_is_installed_without_a_yes(panel, answers, monkeypatch):
    calls = []
    monkeypatch.setattr(type(panel.widget.installer), "missing", property(lambda self: ["PyTorch"]))
    monkeypatch.setattr(panel.widget.installer, "install", lambda for_server: calls.append("install"))
    panel.widget.look_at_packages()
    assert panel.ui.installSection.widget.isVisibleTo(panel.window)
    assert not panel.ui.promptSection.widget.isEnabled()
    panel.picture("panel-install")
    panel.press("installButton")
    assert not calls and "PyTorch extension" in answers["asked"][0][1]
    answers["Install"] = True
    panel.press("installButton")
    assert calls == ["install"]


def test_weights_are_fetched_after_a_yes_only(panel, volume, answers, monkeypatch, tmp_path):
    from napari_sammed.models import weights

    pulled = []
    monkeypatch.setattr(weights, "locate", lambda card: None)
    monkeypatch.setattr(weights, "pull", lambda card, *_, accept_licence: pulled.append((card.name, accept_licence)))
    panel.choose(volume, "sam-vit-b")
    panel.widget.look_at_packages()
    assert panel.ui.fetchButton.text.startswith("Fetch")
    panel.press("fetchButton")
    panel.settle()
    assert not pulled
    assert "Licence of the weights" in answers["asked"][0][1]
    answers["agree"] = True
    panel.press("fetchButton")
    panel.settle()
    assert pulled == [("sam-vit-b", True)]
    assert "are here now" in panel.message


def test_a_click_asks_before_it_fetches_weights(panel, volume, answers, monkeypatch):
    from napari_sammed.models import weights

    pulled = []
    monkeypatch.setattr(weights, "locate", lambda card: None)
    monkeypatch.setattr(weights, "pull", lambda card, *_, accept_licence: pulled.append(card.name))
    panel.choose(volume, "sam-vit-b")
    panel.press("positiveButton")
    panel.place(IN_LEFT)
    panel.settle()
    points = slicer.mrmlScene.GetNodeByID(selection().GetActivePlaceNodeID())
    assert len(answers["asked"]) == 1 and not pulled and points.GetNumberOfControlPoints() == 0
    answers["agree"] = True
    panel.place(IN_LEFT)
    panel.settle()
    assert pulled == ["sam-vit-b"]


def test_the_report_can_be_copied(panel):
    panel.ui.reportSection.widget.findChild(QtWidgets.QPushButton, "copyButton").click()
    assert panel.message == "Copied: paste it into a bug report."
    text = QtWidgets.QApplication.clipboard().text()
    assert "3D Slicer: 5.12.0" in text and "torch: " in text and "Weights on this machine" in text


def test_the_whole_report_is_made_beside_the_gui(panel):
    panel.ui.checkButton.widget.click()
    assert panel.widget.presenter.busy
    panel.settle()
    text = panel.ui.reportText.widget.toPlainText()
    assert "3D Slicer: 5.12.0" in text
    assert "one forward pass with random weights" in text, text


def test_the_modules_own_test_passes(panel):
    """What Slicer runs by "Reload and Test"."""
    panel.module.SammedTest().runTest()


def test_slicer_is_told_of_module_and_sample_data(panel, monkeypatch):
    connected, registered = [], []
    monkeypatch.setattr(slicer.app, "connect", lambda signal, function: connected.append((signal, function)))
    logic = types.SimpleNamespace(registerCustomSampleDataSource=lambda **how: registered.append(how))
    monkeypatch.setitem(sys.modules, "SampleData", types.SimpleNamespace(SampleDataLogic=logic))
    parent = types.SimpleNamespace()
    panel.module.Sammed(parent)
    assert parent.categories == ["Segmentation"] and parent.title and parent.helpText
    ((signal, function),) = connected
    assert signal == "startupCompleted()" and not registered
    function()
    (sample,) = registered
    assert sample["category"] == "SAMMed" and sample["uris"].endswith(sample["checksums"].removeprefix("SHA256:"))


@pytest.mark.parametrize("file", ["Sammed/Sammed.py", "SegmentEditorSammed/SegmentEditorSammed.py"])
def test_importing_a_module_file_loads_nothing_of_others(file):
    """Slicer imports both at every start."""
    code = (
        "import sys, runpy; sys.path[:0] = [r'{root}', r'{lib}']\n"
        "from tests.slicer.pythonqt import ROOT, stand_ins\n"
        "from PyQt6 import QtWidgets; app = QtWidgets.QApplication([])\n"
        "with stand_ins({{}}, None): runpy.run_path(r'{file}')\n"
        "sys.exit(bool({{'torch', 'napari_sammed', 'SimpleITK', 'skimage'}} & set(sys.modules)))"
    ).format(root=ROOT.parent, lib=ROOT / "Sammed", file=ROOT / file)
    environment = os.environ | {"QT_QPA_PLATFORM": "offscreen"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
