"""The Segment Editor effect SAMMed: prompts by the mouse in slice views, answers as the editor's own changes.

Masking, overwrite mode and undo are the editor's; sessions, models and words are those of the module SAMMed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import qt
import slicer
import vtk
from SammedLib import gestures, questions, volumes
from SammedLib.effect_target import EffectTarget
from SammedLib.installing import Installer
from SammedLib.offers import Offer
from SammedLib.presenter import Presenter
from SegmentEditorEffects import AbstractScriptedSegmentEditorEffect
from slicer.i18n import tr as _

TOOLS = {
    "positive": ("Point +", "Click what belongs to the segment"),
    "negative": ("Point -", "Click what does not belong to the segment"),
    "box": ("Box", "Draw a rectangle around the structure"),
    "stroke": ("Stroke +", "Draw along what belongs to the segment"),
    "erasing stroke": ("Stroke -", "Draw along what does not belong to the segment"),
}
_BUSY, _IDLE, _PATIENCE = 10, 100, 0.02  # as in the module
_STEP = 3  # pixels between two points of a stroke


class SegmentEditorEffect(AbstractScriptedSegmentEditorEffect):
    """The effect; a `SammedLib.presenter.View`."""

    def __init__(self, scriptedEffect: Any) -> None:
        scriptedEffect.name = "SAMMed"  # not translated: modules find effects by their name
        scriptedEffect.title = _("SAMMed")
        scriptedEffect.perSegment = True
        scriptedEffect.requireSegments = True
        AbstractScriptedSegmentEditorEffect.__init__(self, scriptedEffect)
        self.presenter: Presenter | None = None
        self._way: list[Any] = []  # of the pointer while the button is held
        self._pixels: list[tuple[int, int]] = []
        self._trail: Trail | None = None
        self._offers: list[Offer] = []

    def clone(self) -> Any:
        import qSlicerSegmentationsEditorEffectsPythonQt as effects

        cloned = effects.qSlicerSegmentEditorScriptedEffect(None)
        cloned.setPythonSource(__file__.replace("\\", "/"))
        return cloned

    def icon(self) -> Any:
        return qt.QIcon(str(Path(__file__).with_suffix(".png")))

    def helpText(self) -> str:
        return "<html>" + _(
            "Segment by clicks and boxes.<p>Choose <b>Point +</b> and click the structure in a slice view; correct "
            "with further points. The chosen model answers in the background; masking, overwriting and undo are the "
            "editor's.<p>Models, weights and what is installed: see the module <b>SAMMed</b>."
        )

    def setupOptionsFrame(self) -> None:
        self.buttons: dict[str, Any] = {}
        row = qt.QHBoxLayout()
        group = qt.QButtonGroup(self.scriptedEffect.optionsFrame())
        for tool, (label, tip) in TOOLS.items():
            button = qt.QPushButton(_(label))
            button.setToolTip(_(tip))
            button.setCheckable(True)
            button.setChecked(tool == "positive")
            button.setObjectName(tool)
            group.addButton(button)
            row.addWidget(button)
            self.buttons[tool] = button
        self.scriptedEffect.addOptionsWidget(row)
        self.models = qt.QComboBox()
        self.models.setToolTip(_("What answers prompts"))
        self.models.currentIndexChanged.connect(self._on_model)
        self.scriptedEffect.addLabeledOptionsWidget(_("Model:"), self.models)
        actions = qt.QHBoxLayout()
        for name, label, action in (
            ("propagate", "Propagate", lambda: self._presented().propagate()),
            ("closer", "Look closer", lambda: self._presented().look_closer()),
            ("reading", "Next reading", lambda: self._presented().next_reading()),
            ("cancel", "Cancel", lambda: self._presented().cancel()),
        ):
            button = qt.QPushButton(_(label))
            button.setObjectName(name)
            button.clicked.connect(self._doing(action))
            actions.addWidget(button)
            self.buttons[name] = button
        self.scriptedEffect.addOptionsWidget(actions)
        self.message = qt.QLabel()
        self.message.setWordWrap(True)
        self.scriptedEffect.addOptionsWidget(self.message)
        self._timer = qt.QTimer()
        self._timer.setInterval(_IDLE)
        self._timer.timeout.connect(self._on_timer)

    # ---- the editor tells ----------------------------------------------------------------------------------------

    def setMRMLDefaults(self) -> None:
        self.scriptedEffect.setParameterDefault("Model", "auto")

    def updateGUIFromMRML(self) -> None:
        row = self.models.findData(self.scriptedEffect.parameter("Model"))
        if row >= 0:
            self.models.setCurrentIndex(row)

    def updateMRMLFromGUI(self) -> None:
        key = self.models.itemData(self.models.currentIndex)
        if key:
            self.scriptedEffect.setParameter("Model", key)

    def activate(self) -> None:
        requirements = Path(slicer.util.modulePath("Sammed")).parent / "Resources" / "requirements.txt"
        if Installer(requirements).missing:
            self.message.setText(_("Open the module SAMMed and press Install first."))
            return
        if self.presenter is None:
            self.presenter = self._make_presenter()
        self.presenter.serving.follow()
        place = self.presenter.serving.place
        if place is not None:
            self.message.setText(_("Segments at {host}.").format(host=place.host))
        self._fill_models()
        self._timer.start()
        self._open()

    def deactivate(self) -> None:
        self._drop_drawing()

    def cleanup(self) -> None:
        """The editor goes away."""
        self._drop_drawing()
        self._timer.stop()
        if self.presenter is not None:
            self.presenter.close()
            self.presenter = None

    def sourceVolumeNodeChanged(self) -> None:
        self._open()

    def processInteractionEvents(self, callerInteractor: Any, eventId: int, viewWidget: Any) -> bool:
        if self.presenter is None or viewWidget.className() != "qMRMLSliceWidget":
            return False
        modified = callerInteractor.GetShiftKey() or callerInteractor.GetControlKey() or callerInteractor.GetAltKey()
        pressed = eventId == vtk.vtkCommand.LeftButtonPressEvent
        if (pressed and (modified or not self.scriptedEffect.confirmCurrentSegmentVisible())) or not (
            pressed or self._way
        ):
            return False
        view = self.scriptedEffect.viewNode(viewWidget)
        pixel = callerInteractor.GetEventPosition()
        if pressed:
            self._drop_drawing()
            self._trail = Trail(self.scriptedEffect, viewWidget)
            self._extend(view, pixel)
        elif eventId == vtk.vtkCommand.MouseMoveEvent:
            if max(abs(a - b) for a, b in zip(pixel, self._pixels[-1], strict=True)) >= _STEP:
                self._extend(view, pixel)
        elif eventId == vtk.vtkCommand.LeftButtonReleaseEvent:
            self._extend(view, pixel)
            way = self._way
            self._drop_drawing()
            self._finish(view, way)
        else:
            return False
        return True

    # ---- the presenter shows (`View`) ----------------------------------------------------------------------------

    def say(self, message: str, remark: str = "") -> None:
        self.message.setText(f"{message} {remark}".strip())

    def show_progress(self, text: str, share: float) -> None:
        self.message.setText(f"{text} ({round(100 * share)} %)")

    def refresh(self) -> None:
        if self.presenter is None:
            return
        busy, state = self.presenter.busy, self.presenter.logic.state
        self._timer.setInterval(_BUSY if busy else _IDLE)
        self.buttons["cancel"].setEnabled(busy)
        self.buttons["reading"].setEnabled(state is not None and len(state.readings) > 1)

    def agrees(self, question: str, conditions: str) -> bool:
        return questions.agrees(question, conditions)

    # ---- inside --------------------------------------------------------------------------------------------------

    def _make_presenter(self) -> Presenter:
        return Presenter(self)

    def _presented(self) -> Presenter:
        """The presenter, turned to the editor's volume and segment."""
        node = self.scriptedEffect.parameterSetNode()
        logic = self.presenter.logic
        if logic.volume is not node.GetSourceVolumeNode() or logic.segmentation is not node.GetSegmentationNode():
            self._open()
        logic.model = self.scriptedEffect.parameter("Model")
        self.presenter.select(node.GetSelectedSegmentID())
        return self.presenter

    def _open(self) -> None:
        node = self.scriptedEffect.parameterSetNode()
        if self.presenter is None or node is None:
            return
        volume, segmentation = node.GetSourceVolumeNode(), node.GetSegmentationNode()
        if volume is None or segmentation is None:
            return
        modes = slicer.qSlicerSegmentEditorAbstractEffect
        target = EffectTarget(
            self.scriptedEffect, {"add": modes.ModificationModeAdd, "remove": modes.ModificationModeRemove}
        )
        self.presenter.open(volume, segmentation, target=target)

    def _extend(self, view: Any, pixel: tuple[int, int]) -> None:
        self._pixels.append(pixel)
        self._way.append(gestures.world_of(view, *pixel))
        self._trail.show(self._pixels, closed=self._tool() == "box")

    def _finish(self, view: Any, way: list[Any]) -> None:
        presenter, tool = self._presented(), self._tool()
        volume = presenter.logic.volume
        if volume is None:  # refused, and said so
            return
        presenter.attempt(lambda: self._prompt(presenter, volume, view, way, tool))

    def _prompt(self, presenter: Presenter, volume: Any, view: Any, way: list[Any], tool: str) -> None:
        axis = volumes.axis_across(volume, view)
        if tool == "box":
            prompt: Any = gestures.rectangle(volume, view, way[0], way[-1])
        elif tool in ("stroke", "erasing stroke"):
            prompt = gestures.scribble(volume, way, positive=tool == "stroke")
        else:
            prompt = gestures.click(volume, way[-1], positive=tool == "positive")
        presenter.add(prompt, axis=axis)

    def _tool(self) -> str:
        return next(tool for tool in TOOLS if self.buttons[tool].isChecked())

    def _drop_drawing(self) -> None:
        self._way, self._pixels = [], []
        if self._trail is not None:
            self._trail.remove()
            self._trail = None

    def _fill_models(self) -> None:
        chosen, offers = self.scriptedEffect.parameter("Model"), self.presenter.models()
        if offers == self._offers:
            return
        self._offers = offers
        self.models.blockSignals(True)
        self.models.clear()
        for row, offer in enumerate(offers):
            self.models.addItem(offer.label, offer.key)
            self.models.setItemData(row, offer.tooltip, qt.Qt.ToolTipRole)
        self.models.setCurrentIndex(max(self.models.findData(chosen), 0))
        self.models.blockSignals(False)

    def _on_model(self, *_arguments: Any) -> None:
        self.updateMRMLFromGUI()

    def _on_timer(self) -> None:
        if self.presenter is None:
            return
        was_busy = self.presenter.busy
        self.presenter.mailbox.run(_PATIENCE if was_busy else 0.0)
        if was_busy and not self.presenter.busy:
            self._fill_models()  # a server may have said meanwhile what it has

    def _doing(self, action: Any) -> Any:
        """For a button: nothing happens before the effect has been activated."""
        return lambda *_arguments: action() if self.presenter is not None else None


class Trail:
    """What the pointer has drawn, in one slice view."""

    def __init__(self, effect: Any, view_widget: Any) -> None:
        self._effect, self._widget = effect, view_widget
        self._data = vtk.vtkPolyData()
        mapper = vtk.vtkPolyDataMapper2D()
        mapper.SetInputData(self._data)
        self._actor = vtk.vtkActor2D()
        self._actor.SetMapper(mapper)
        self._actor.GetProperty().SetColor(0.94, 0.89, 0.26)
        self._actor.GetProperty().SetLineWidth(2)
        effect.addActor2D(view_widget, self._actor)

    def show(self, pixels: list[tuple[int, int]], *, closed: bool) -> None:
        """Draw a line, or with ``closed`` the rectangle between its ends."""
        if closed:
            (x0, y0), (x1, y1) = pixels[0], pixels[-1]
            pixels = [(x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0)]
        points, lines = vtk.vtkPoints(), vtk.vtkCellArray()
        lines.InsertNextCell(len(pixels))
        for x, y in pixels:
            lines.InsertCellPoint(points.InsertNextPoint(x, y, 0))
        self._data.SetPoints(points)
        self._data.SetLines(lines)
        self._widget.sliceView().scheduleRender()

    def remove(self) -> None:
        self._effect.removeActor2D(self._widget, self._actor)
        self._widget.sliceView().scheduleRender()
