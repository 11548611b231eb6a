"""The module SAMMed: a panel that passes what the user wants to `SammedLib`, and shows what comes of it.

Nothing here imports more than Slicer has, and nothing is installed or fetched unless the user presses a button for it.
"""

# Without `from __future__ import annotations`: parameterNodeWrapper reads the types themselves.

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Union

import qt
import slicer
import vtk
from SammedLib import questions
from SammedLib.install_section import InstallSection
from SammedLib.installing import Installer
from SammedLib.module_test import ModuleTest
from SammedLib.offers import CUSTOM, DEVICES, Offer
from SammedLib.place_section import PlaceSection
from SammedLib.presenter import Presenter, segmentation_of
from SammedLib.report_section import ReportSection
from SammedLib.samples import register_sample_data
from SammedLib.shortcuts import SHORTCUTS, Shortcuts
from slicer import vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode, vtkMRMLVectorVolumeNode
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

TOOLS = {
    "positiveButton": "positive",
    "negativeButton": "negative",
    "boxButton": "box",
    "strokeButton": "stroke",
    "eraseButton": "erasing stroke",
    "lassoButton": "lasso",
    "regionButton": "region",
}
"""Button -> tool (`SammedLib.placing`)."""

_BUSY, _IDLE = 10, 100  # ms between looks at what other threads have posted
_PATIENCE = 0.02  # s in which other threads may run: Slicer's event loop keeps Python's lock
_STEPS = 1000  # of the progress bar


class Sammed(ScriptedLoadableModule):
    """What Slicer wants to know of the module."""

    def __init__(self, parent: Any) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = _("SAMMed: segment by clicks and boxes")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        parent.dependencies = ["Segmentations", "Markups"]
        parent.contributors = ["The napari-sammed authors"]
        parent.helpText = _(
            "Segments organs and lesions from points, boxes and strokes, on your own computer or at a server of your "
            "choice. Choose a volume, press <b>Point +</b> and click the structure in a slice view. Not a medical "
            "device."
        )
        parent.acknowledgementText = _(
            "Built on the published systems SAM, MedSAM, LiteMedSAM, SAM-Med2D, SAM-Med3D and SegVol; please cite the "
            "model that you use (see the extension's page)."
        )
        slicer.app.connect("startupCompleted()", register_sample_data)


@parameterNodeWrapper
class SammedParameterNode:
    """The choices of the panel, kept with the scene."""

    volume: Union[vtkMRMLScalarVolumeNode, vtkMRMLVectorVolumeNode]  # noqa: UP007 (what the wrapper is known to read)
    segmentation: vtkMRMLSegmentationNode
    model: str = "auto"
    window: str = "auto"
    level: Annotated[float, WithinRange(-100_000.0, 100_000.0)] = 40.0
    width: Annotated[float, WithinRange(0.1, 200_000.0)] = 400.0
    device: str = "auto"
    sliceBoxes: bool = True


class SammedLogic(ScriptedLoadableModuleLogic):
    """Only Slicer's way to the parameter node; scripts want `SammedLib.logic.SammedLogic`."""

    def getParameterNode(self) -> SammedParameterNode:
        return SammedParameterNode(super().getParameterNode())


class SammedWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel; a `SammedLib.presenter.View`."""

    def __init__(self, parent: Any = None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic: SammedLogic | None = None
        self.presenter: Presenter | None = None
        self._parameters: Any = None
        self._connection: Any = None
        self._opened: tuple[Any, Any] = (None, None)
        self._offers: dict[str, list[Offer]] = {}
        self._shortcuts = Shortcuts({})
        self._following = False

    # ---- life ----------------------------------------------------------------------------------------------------

    def setup(self) -> None:
        ScriptedLoadableModuleWidget.setup(self)
        panel = slicer.util.loadUI(self.resourcePath("UI/Sammed.ui"))
        self.layout.addWidget(panel)
        self.ui = slicer.util.childWidgetVariables(panel)
        panel.setMRMLScene(slicer.mrmlScene)
        self.logic = SammedLogic()
        self.presenter = self._make_presenter()
        self.installer = Installer(Path(self.resourcePath("requirements.txt")))
        self.install_section = InstallSection(self.ui, self.installer, self.say, self.look_at_packages)
        self.report_section = ReportSection(self.ui, self.presenter)
        self.place_section = PlaceSection(
            self.ui, self.presenter.serving, self.presenter.attempt, self.look_at_packages
        )
        self._connect()
        self._show_offers(self.ui.deviceBox, "device", [Offer(key, _(label)) for key, label in DEVICES.items()])
        for event, heard in (
            (slicer.mrmlScene.StartCloseEvent, self._on_scene_start_close),
            (slicer.mrmlScene.EndCloseEvent, self._on_scene_end_close),
        ):
            self.addObserver(slicer.mrmlScene, event, heard)
        self._timer = qt.QTimer()
        self._timer.setInterval(_IDLE)
        self._timer.timeout.connect(self._on_timer)
        self._timer.start()
        self._watch_parameters(self.logic.getParameterNode())
        self.say("")
        self.look_at_packages()

    def cleanup(self) -> None:
        self.exit()
        self._timer.stop()
        self._watch_parameters(None)
        self.removeObservers()
        self.presenter.close()

    def enter(self) -> None:
        if self._parameters is None:
            self._watch_parameters(self.logic.getParameterNode())
        self.look_at_packages()
        self._shortcuts.work()

    def exit(self) -> None:
        self.presenter.take("")
        self._shortcuts.rest()

    def _on_scene_start_close(self, *_: Any) -> None:
        self.presenter.take("")
        self._watch_parameters(None)

    def _on_scene_end_close(self, *_: Any) -> None:
        self._watch_parameters(self.logic.getParameterNode())
        self.say("")

    def _make_presenter(self) -> Presenter:
        return Presenter(self)

    # ---- what the presenter shows (`View`) -----------------------------------------------------------------------

    def say(self, message: str, remark: str = "") -> None:
        self.ui.messageLabel.setText(message)
        self.ui.remarkLabel.setText(remark)
        self.ui.remarkLabel.setVisible(bool(remark))

    def show_progress(self, text: str, share: float) -> None:
        self.ui.messageLabel.setText(text)
        self.ui.progressBar.setValue(round(_STEPS * min(max(share, 0.0), 1.0)))

    def refresh(self) -> None:
        if self.presenter is None:
            return
        logic, busy = self.presenter.logic, self.presenter.busy
        self._timer.setInterval(_BUSY if busy else _IDLE)
        self.ui.progressRow.setVisible(busy)
        if not busy:
            self.ui.progressBar.setValue(0)
        for name, tool in TOOLS.items():
            getattr(self.ui, name).setChecked(self.presenter.placing.tool == tool)
        state = logic.state
        readings = () if state is None else state.readings
        self.ui.readings.setVisible(len(readings) > 1)
        if len(readings) > 1:
            text = _("Reading {number} of {count}, score {score:.2f}")
            shown = text.format(number=state.reading + 1, count=len(readings), score=readings[state.reading])
            self.ui.readingLabel.setText(shown)
        self.ui.deviceBox.setEnabled(self.presenter.serving.place is None)
        self._show_segments()
        self._show_model()
        if self.ui.placeSection.enabled:
            self.place_section.show()

    def agrees(self, question: str, conditions: str) -> bool:
        return questions.agrees(question, conditions)

    # ---- packages ------------------------------------------------------------------------------------------------

    def look_at_packages(self) -> None:
        """Show what is to be installed, or the models that are there; where to segment may have been chosen anew."""
        ready = not self.installer.missing_packages
        if ready:
            self.presenter.serving.follow()
        self.place_section.show(ready)
        explained = self.install_section.show()
        for section in (self.ui.inputsSection, self.ui.promptSection, self.ui.segmentsSection, self.ui.actionsSection):
            section.setEnabled(not explained)
        self.report_section.show()
        if not explained:
            self._show_offers(self.ui.modelBox, "model", self.presenter.models())
            self._show_offers(self.ui.windowBox, "window", self.presenter.windows())
            self._follow_parameters()
        self.refresh()

    # ---- choices -------------------------------------------------------------------------------------------------

    def _watch_parameters(self, parameters: Any) -> None:
        """Keep panel and parameter node the same from now on; None stops that."""
        if self._parameters is not None:
            self._parameters.disconnectGui(self._connection)
            self.removeObserver(self._parameters, vtk.vtkCommand.ModifiedEvent, self._follow_parameters)
        self._parameters, self._opened = parameters, (None, None)
        if parameters is not None:
            self._connection = parameters.connectGui(self.ui)
            self.addObserver(parameters, vtk.vtkCommand.ModifiedEvent, self._follow_parameters)
            self._follow_parameters()

    def _follow_parameters(self, *_arguments: Any) -> None:
        """Do what the parameter node says: the user has chosen something, or a scene has been loaded."""
        parameters = self._parameters
        if parameters is None or self._following or self.installer.missing:
            return
        self._following = True  # choosing may change the node in turn
        try:
            presenter = self.presenter
            presenter.logic.model = parameters.model
            presenter.set_window(parameters.window, (parameters.level, parameters.width))
            presenter.set_device(parameters.device)
            presenter.slice_boxes = parameters.sliceBoxes
            for name in ("model", "window", "device"):
                self._select(getattr(self.ui, f"{name}Box"), getattr(parameters, name))
            self.ui.customWindow.setVisible(parameters.window == CUSTOM)
            self._open_chosen()
        finally:
            self._following = False
        self._show_model()

    def _open_chosen(self, *, anew: bool = False) -> None:
        """Open the chosen nodes if they are others than before; with ``anew``, in any case."""
        volume, segmentation = self._parameters.volume, self._parameters.segmentation
        volume_before, segmentation_before = self._opened
        if volume is not None and volume_before is not None and volume is not volume_before:
            segmentation = segmentation_of(volume)
        unchanged = volume is volume_before and (segmentation is None or segmentation is segmentation_before)
        if volume is None or (unchanged and not anew):
            return
        found = self.presenter.open(volume, segmentation)
        self._opened = (volume, found or segmentation)
        if found is not None:
            self._parameters.segmentation = found

    def _choose(self, name: str, row: int) -> None:
        if not self._following and self._parameters is not None and 0 <= row < len(self._offers[name]):
            setattr(self._parameters, name, self._offers[name][row].key)

    def _show_offers(self, box: Any, name: str, offers: list[Offer]) -> None:
        """Fill a list, without choosing anything by that."""
        if self._offers.get(name) == offers:
            return
        self._offers[name] = offers
        before, self._following = self._following, True
        box.clear()
        for row, offer in enumerate(offers):
            box.addItem(offer.label, offer.key)
            box.setItemData(row, offer.tooltip, qt.Qt.ToolTipRole)
        if self._parameters is not None:
            self._select(box, getattr(self._parameters, name))
        self._following = before

    def _select(self, box: Any, key: str) -> None:
        row = box.findData(key)
        if row >= 0 and box.currentIndex != row:
            box.setCurrentIndex(row)

    def _show_model(self) -> None:
        """What is to be known of the chosen model, as it stands now."""
        key = "auto" if self._parameters is None else self._parameters.model
        chosen = next((offer for offer in self._offers.get("model", ()) if offer.key == key), Offer("", ""))
        self.ui.modelNote.setText(chosen.note)
        self.ui.modelNote.setVisible(bool(chosen.note))
        self.ui.fetchButton.setText(chosen.fetch)
        self.ui.fetchButton.setVisible(bool(chosen.fetch))

    # ---- segments ------------------------------------------------------------------------------------------------

    def _show_segments(self) -> None:
        logic, table = self.presenter.logic, self.ui.segmentsTable
        if table.segmentationNode() is not logic.segmentation:
            table.setSegmentationNode(logic.segmentation)
        wanted = [logic.segment_id] if logic.segment_id else []
        if wanted and list(table.selectedSegmentIDs()) != wanted:
            self._following = True
            table.setSelectedSegmentIDs(wanted)
            self._following = False

    def _on_segment_selected(self, *_arguments: Any) -> None:
        chosen = list(self.ui.segmentsTable.selectedSegmentIDs())
        if len(chosen) == 1 and not self._following:
            self.presenter.select(chosen[0])

    # ---- buttons -------------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        presenter, ui = self.presenter, self.ui
        for name, tool in TOOLS.items():
            getattr(ui, name).clicked.connect(self._taking(tool))
        for name, action in (
            ("nextButton", self._on_next),
            ("undoButton", presenter.undo),
            ("redoButton", presenter.redo),
            ("propagateButton", presenter.propagate),
            ("closerButton", presenter.look_closer),
            ("nextReadingButton", presenter.next_reading),
            ("previousReadingButton", lambda: presenter.next_reading(-1)),
            ("cancelButton", presenter.cancel),
            ("fetchButton", self._on_fetch),
        ):
            getattr(ui, name).clicked.connect(_ignoring(action))
        for name in ("model", "window", "device"):
            getattr(ui, f"{name}Box").currentIndexChanged.connect(self._choosing(name))
        ui.segmentsTable.selectionChanged.connect(self._on_segment_selected)
        keys = {key: getattr(ui, name).click for key, name in SHORTCUTS.items()}
        self._shortcuts = Shortcuts({**keys, "w": self._other_point})

    def _taking(self, tool: str) -> Callable[..., None]:
        def take(*_arguments: Any) -> None:
            in_hand = self.presenter.placing.tool == tool
            if not in_hand and self._parameters is not None and self.presenter.logic.volume is None:
                self._open_chosen(anew=True)
            self.presenter.take("" if in_hand else tool)

        return take

    def _choosing(self, name: str) -> Callable[..., None]:
        # The row is asked for: which overload of the signal comes, row or text, is up to Qt.
        return lambda *_arguments: self._choose(name, getattr(self.ui, f"{name}Box").currentIndex)

    def _on_next(self) -> None:
        if self.presenter.logic.volume is None and self._parameters is not None:
            self._open_chosen(anew=True)
        self.presenter.next_segment()

    def _on_fetch(self) -> None:
        self.presenter.fetch(self._parameters.model)
        self._show_offers(self.ui.modelBox, "model", self.presenter.models())
        self._show_model()

    def _on_timer(self) -> None:
        was_busy = self.presenter.busy
        self.presenter.mailbox.run(_PATIENCE if was_busy else 0.0)
        if was_busy and not self.presenter.busy:
            self._show_offers(self.ui.modelBox, "model", self.presenter.models())
            self.refresh()

    # ---- keys --------------------------------------------------------------------------------------------------------

    def _other_point(self) -> None:
        name = "negativeButton" if self.presenter.placing.tool == "positive" else "positiveButton"
        getattr(self.ui, name).click()


def _ignoring(action: Callable[[], None]) -> Callable[..., None]:
    """Take whatever a signal brings."""
    return lambda *_arguments: action()


class SammedTest(ModuleTest):
    """By this name Slicer finds it."""
