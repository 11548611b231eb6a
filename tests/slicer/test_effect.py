"""The Segment Editor effect: mouse events in, the editor's own changes out; the editor's logic and nodes are real."""

from __future__ import annotations

import importlib
import sys
import types
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed: pip install 'napari-sammed[slicer]'")
pytest.importorskip("PyQt6", reason="no Qt for the panel: pip install 'napari-sammed[napari]'")

import slicer
import vtk
from PyQt6 import QtWidgets
from SammedLib import volumes
from SammedLib.presenter import Presenter
from SammedLib.segments import EditorLogic

from napari_sammed.backend.local import LocalBackend
from tests.plugin.ambiguous import Ambiguous
from tests.slicer.pythonqt import ROOT, AsPythonQt, known_as, stand_ins
from tests.slicer.scenes import OBLIQUE, add_volume, blobs, matrix, segment_mask
from tests.thresholder import Thresholder

LEFT, MIDDLE, BELOW = ((blobs() == value) for value in (300, 500, 700))
IN_LEFT, IN_MIDDLE, IN_BELOW = ((4, 5, 6), (4, 5, 8), (4, 8, 6))


class ScriptedEffect:
    """What the C++ side of an effect offers, on the editor's real logic and parameter node."""

    def __init__(self, volume, segmentation) -> None:
        self._logic = EditorLogic(slicer.mrmlScene, volume, undo_states=10)
        node = self._logic.node
        node.SetAndObserveSegmentationNode(segmentation)
        node.SetAndObserveSourceVolumeNode(volume)
        self.editor = self._logic.logic
        self.frame = QtWidgets.QWidget()
        self.form = QtWidgets.QFormLayout(self.frame)
        self.parameters: dict[str, str] = {}
        self.actors: list[object] = []
        self.saved = 0

    def parameterSetNode(self):
        return self._logic.node

    def optionsFrame(self):
        return self.frame

    def addOptionsWidget(self, widget) -> None:
        self.form.addRow(widget)

    def addLabeledOptionsWidget(self, label, widget) -> None:
        self.form.addRow(label, getattr(widget, "widget", widget))

    def setParameterDefault(self, name, value) -> None:
        self.parameters.setdefault(name, value)

    def setParameter(self, name, value) -> None:
        self.parameters[name] = value

    def parameter(self, name) -> str:
        return self.parameters[name]

    def confirmCurrentSegmentVisible(self) -> bool:
        return True

    def viewNode(self, widget):
        return widget.node

    def addActor2D(self, widget, actor) -> None:
        self.actors.append(actor)

    def removeActor2D(self, widget, actor) -> None:
        self.actors.remove(actor)

    def saveStateForUndo(self) -> None:
        self.saved += 1
        self.editor.SaveStateForUndo()

    def modifySegmentByLabelmap(self, segmentation, segment_id, labelmap, mode) -> None:
        self.editor.ModifySegmentByLabelmap(segmentation, segment_id, labelmap, mode, True, False)


class SliceWidget:
    """A slice view of 200 x 200 pixels of 0.25 mm, along the voxels."""

    def __init__(self, volume) -> None:
        self.node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceNode")
        self.node.SetDimensions(200, 200, 1)
        self.node.SetFieldOfView(50, 50, 1)
        centre = volumes.to_world(volume, [(4, 6, 7)])[0]
        self.node.SetSliceToRASByNTP(*OBLIQUE[:, 2], *OBLIQUE[:, 0], *centre, 0)
        self.node.UpdateMatrices()

    def className(self) -> str:
        return "qMRMLSliceWidget"

    def sliceView(self):
        return types.SimpleNamespace(scheduleRender=lambda: None)

    def pixel(self, world) -> tuple[int, int]:
        from_xy = slicer.util.arrayFromVTKMatrix(self.node.GetXYToRAS())
        return tuple(round(v) for v in np.linalg.solve(from_xy, (*world, 1))[:2])


class Hands:
    """The effect in an editor, and a mouse."""

    def __init__(self, module, volume) -> None:
        self.volume = volume
        self.segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
        self.segmentation.SetReferenceImageGeometryParameterFromVolumeNode(volume)
        core = self.segmentation.GetSegmentation()
        core.SetSourceRepresentationName("Binary labelmap")
        self.ids = [core.AddEmptySegment("", name) for name in ("one", "two")]
        self.scripted = ScriptedEffect(volume, self.segmentation)
        self.view = SliceWidget(volume)
        models = {"thresholder": Thresholder(), "ambiguous": Ambiguous()}

        class Effect(module.SegmentEditorEffect):
            def _make_presenter(self):
                return Presenter(self, lambda: LocalBackend("cpu", models=models))

        self.effect = Effect(self.scripted)
        self.effect.setupOptionsFrame()
        self.effect.models = AsPythonQt(self.effect.models)
        self.effect.setMRMLDefaults()
        self.scripted.setParameter("Model", "thresholder")
        self.select(0)
        self.effect.activate()
        self.wait()

    def select(self, number: int) -> None:
        self.scripted.parameterSetNode().SetSelectedSegmentID(self.ids[number])

    def drag(self, *indices, tool: str = "positive") -> None:
        self.effect.buttons[tool].setChecked(True)
        pixels = [self.view.pixel(volumes.to_world(self.volume, [index])[0]) for index in indices]
        for number, pixel in enumerate(pixels):
            self.send("MouseMoveEvent" if number else "LeftButtonPressEvent", pixel)
        self.send("LeftButtonReleaseEvent", pixels[-1])

    def send(self, event: str, pixel) -> bool:
        interactor = types.SimpleNamespace(
            GetShiftKey=lambda: 0,
            GetControlKey=lambda: 0,
            GetAltKey=lambda: 0,
            GetEventPosition=lambda: pixel,
        )
        return self.effect.processInteractionEvents(interactor, getattr(vtk.vtkCommand, event), self.view)

    def wait(self) -> None:
        while self.effect.presenter.busy:
            self.effect.presenter.mailbox.run(0.02)
        self.effect.presenter.mailbox.run()

    def masks(self) -> list[np.ndarray]:
        return [segment_mask(self.segmentation, segment_id, self.volume) for segment_id in self.ids]


@pytest.fixture
def hands(scene, qtbot, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "SegmentEditorSammed"))
    effects = types.ModuleType("SegmentEditorEffects")

    class Base:
        def __init__(self, scripted) -> None:
            self.scriptedEffect = scripted

    effects.AbstractScriptedSegmentEditorEffect = Base
    modes = types.SimpleNamespace(
        ModificationModeAdd=slicer.vtkSlicerSegmentEditorLogic.ModificationModeAdd,
        ModificationModeRemove=slicer.vtkSlicerSegmentEditorLogic.ModificationModeRemove,
    )
    monkeypatch.setattr(slicer, "qSlicerSegmentEditorAbstractEffect", modes, raising=False)
    monkeypatch.setattr(slicer.app, "connect", lambda *_: None, raising=False)
    monkeypatch.setattr(slicer.util, "modulePath", lambda name: str(Path(ROOT / name / f"{name}.py")))
    volume = add_volume(blobs(), matrix(OBLIQUE))
    with stand_ins({}, QtWidgets.QMainWindow()), known_as({"SegmentEditorEffects": effects}):
        sys.modules.pop("SegmentEditorSammedLib.SegmentEditorEffect", None)
        module = importlib.import_module("SegmentEditorSammedLib.SegmentEditorEffect")
        made = Hands(module, volume)
        yield made
        made.effect.cleanup()
        sys.modules.pop("SegmentEditorSammedLib.SegmentEditorEffect", None)


def same(found, *expected) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


NOTHING = np.zeros(LEFT.shape, bool)


def test_a_click_fills_the_selected_segment(hands):
    hands.drag(IN_LEFT)
    hands.wait()
    assert same(hands.masks(), LEFT, NOTHING)
    hands.select(1)
    hands.drag(IN_MIDDLE)
    hands.wait()
    assert same(hands.masks(), LEFT, MIDDLE)
    assert "score 0.90" in hands.effect.message.text()


def test_strokes_and_boxes(hands):
    hands.drag((4, 4, 6), (4, 6, 6), (4, 7, 6), tool="stroke")
    hands.wait()
    assert same(hands.masks(), LEFT, NOTHING)
    hands.select(1)
    hands.drag((4, 3, 4), (4, 8, 6), tool="box")
    assert not hands.scripted.actors  # the drawing is gone
    hands.wait()
    found = hands.masks()[1]
    assert found.any() and set(np.nonzero(found)[0]) == {4}


def test_what_does_not_belong_is_removed(hands):
    hands.drag(IN_LEFT)
    hands.wait()
    hands.drag((4, 4, 5), tool="negative")
    hands.wait()
    assert same(hands.masks(), NOTHING, NOTHING)


def test_the_editors_undo_is_followed(hands):
    hands.drag(IN_LEFT)
    hands.wait()
    hands.drag(IN_BELOW)
    hands.wait()
    assert hands.scripted.saved == 2
    hands.scripted.editor.Undo()
    assert same(hands.masks(), LEFT, NOTHING)
    hands.drag(IN_MIDDLE)
    hands.wait()
    assert same(hands.masks(), LEFT | MIDDLE, NOTHING)


def test_masking_is_the_editors(hands):
    hands.drag(IN_LEFT)
    hands.wait()
    node = hands.scripted.parameterSetNode()
    node.SetMaskMode(slicer.vtkMRMLSegmentationNode.EditAllowedOutsideAllSegments)
    hands.select(1)
    hands.drag(IN_LEFT)
    hands.wait()
    hands.drag(IN_MIDDLE)
    hands.wait()
    assert same(hands.masks(), LEFT, MIDDLE)


def test_an_answer_that_comes_late_goes_to_its_segment_and_leaves_the_selection(hands):
    hands.drag(IN_LEFT)
    hands.select(1)
    hands.wait()
    assert same(hands.masks(), LEFT, NOTHING)
    assert hands.scripted.parameterSetNode().GetSelectedSegmentID() == hands.ids[1]


def test_modifier_keys_and_other_views_are_left_to_slicer(hands):
    assert hands.send("MouseMoveEvent", (5, 5)) is False
    assert hands.send("LeftButtonReleaseEvent", (5, 5)) is False
    hands.view.className = lambda: "qMRMLThreeDWidget"
    assert hands.send("LeftButtonPressEvent", (5, 5)) is False


def test_a_click_beside_the_volume_is_refused_in_words(hands):
    hands.send("LeftButtonPressEvent", (0, 0))
    hands.send("LeftButtonReleaseEvent", (0, 0))
    hands.wait()
    assert "outside" in hands.effect.message.text()
    assert same(hands.masks(), NOTHING, NOTHING)


def test_every_button_is_pressed(hands):
    for name, button in hands.effect.buttons.items():
        if button.isEnabled():
            button.click()
        hands.wait()
        assert button.objectName() == name


def test_the_model_is_kept_in_the_editors_parameters(hands):
    box = hands.effect.models.widget
    box.setCurrentIndex(box.findData("random-walker"))
    assert hands.scripted.parameter("Model") == "random-walker"
    hands.scripted.setParameter("Model", "auto")
    hands.effect.updateGUIFromMRML()
    assert box.currentData() == "auto"
