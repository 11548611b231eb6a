"""All views in one column."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from qtpy.QtCore import Qt, QTimer, Signal
from qtpy.QtGui import QKeySequence, QShortcut
from qtpy.QtWidgets import (
    QFileDialog,
    QFrame,
    QHBoxLayout,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_sammed.plugin.views.brush import BrushSize
from napari_sammed.plugin.views.choosers import ImageSection
from napari_sammed.plugin.views.classes import ClassSection
from napari_sammed.plugin.views.closer import CloserRow
from napari_sammed.plugin.views.cockpit import CockpitView, PropagateMenu
from napari_sammed.plugin.views.comparison import ComparisonView
from napari_sammed.plugin.views.frames import FrameSection
from napari_sammed.plugin.views.objects import ObjectList
from napari_sammed.plugin.views.offers import OfferBar
from napari_sammed.plugin.views.overlaps import OverlapBar
from napari_sammed.plugin.views.place_button import PlaceButton
from napari_sammed.plugin.views.preview import PreviewBox
from napari_sammed.plugin.views.prompting import ModeButtons, SliceRange, with_key
from napari_sammed.plugin.views.readings import ReadingBar
from napari_sammed.plugin.views.saving import SavedNote, SaveOptions
from napari_sammed.plugin.views.section import Section
from napari_sammed.plugin.views.session_files import SessionButton
from napari_sammed.plugin.views.status import StatusView
from napari_sammed.plugin.views.welcome import HintBar, WelcomeView
from napari_sammed.samples import SAMPLES

ACTIONS = {
    "undo": ("Undo", "Take the last action back, as far back as you like"),
    "redo": ("Redo", "Do again what was taken back last"),
    "propagate": (
        "Propagate",
        "Carry the object through the volume, both ways; after a correction, as far as that matters",
    ),
    "compare": (
        "Compare models",
        "Ask all models whose weights are here about the object's prompts, and see where they differ; changes nothing",
    ),
    "clear": ("Clear", "Remove the object's prompts and mask; undo brings them back"),
    "save": ("Save…", "Write all objects as a label image on the image's own grid"),
}
SECTIONS = {
    "image": ("Image", "Which image is segmented, with which model, and how its grey values are seen"),
    "prompt": ("Prompt", "Mark the object: what a press on the canvas means"),
    "objects": ("Objects", "What has been segmented: one row an object; save them below"),
    "refine": (
        "Refine",
        "Carry the object through the volume, see where that went wrong, look closer at a part",
    ),
}
"""Parts of the panel from the top, each of which can be closed -> heading, tooltip."""
FILE_TYPES = (
    "NIfTI (*.nii.gz);;NRRD (*.nrrd);;3D Slicer segmentation, with names and colours (*.seg.nrrd);;MetaImage (*.mha)"
    ";;OME-Zarr, for large images (*.zarr)"
    ";;DICOM segmentation, for images from DICOM (*.dcm)"
    ";;TIFF, without spacing (*.tif);;PNG, flat images only (*.png)"
)


class Panel(QWidget):
    """The column of the dock widget.

    Signals
    -------
    wanted : str
        A key of `ACTIONS` other than "save".
    save_wanted : Path
        File that the user picked.
    shortcuts_wanted
        The user wants to see the list of shortcuts.
    preferences_wanted
        The user wants to see the page of preferences.
    section_toggled : str, bool
        Key of a section in `sections` that was opened or closed.
    """

    wanted = Signal(str)
    save_wanted = Signal(Path)
    shortcuts_wanted = Signal()
    preferences_wanted = Signal()
    section_toggled = Signal(str, bool)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.image_section = ImageSection(self)
        self.frames = FrameSection(self.image_section.form, 1, self)
        self.welcome = WelcomeView(SAMPLES, self)
        self.hint = HintBar(self)
        self.modes = ModeButtons(self)
        self.preview = PreviewBox(self)
        self.slices = SliceRange(self)
        self.brush = BrushSize(self)
        self.objects = ObjectList(self)
        self.overlaps = OverlapBar(self)
        self.readings = ReadingBar(self)
        self.propagate_menu = PropagateMenu(self)
        self.cockpit = CockpitView(self)
        self.closer = CloserRow(self)
        self.comparison = ComparisonView(self)
        self.classes = ClassSection(self)
        self.status = StatusView(self)
        self.offers = OfferBar(self)
        self.session_button = SessionButton(self)
        self.save_options = SaveOptions(self)
        self.saved = SavedNote(self)
        self.actions_ = {name: QPushButton(label, self) for name, (label, _) in ACTIONS.items()}
        self.suggested_file = Path("objects.nii.gz")
        for name, button in self.actions_.items():
            button.setToolTip(ACTIONS[name][1])
            button.setObjectName(f"action-{name}")
            button.clicked.connect(lambda _, name=name: self._on_action(name))
        self.sections = {key: Section(*SECTIONS[key], parent=self) for key in SECTIONS} | {"classes": self.classes}
        self.sections = {"image": self.sections["image"], "frames": self.frames} | self.sections
        self.sections["image"].add(self.image_section)
        steps = self._row("undo", "redo", "clear")
        beside = self._row(self.preview, self.brush)
        self.sections["prompt"].add(self.hint, self.modes, beside, self.preview.note, self.slices, steps)
        files = self._row("save", self.save_options, self.session_button)
        self.sections["objects"].add(self.objects, self.readings, self.overlaps, files, self.saved)
        propagate = self._row("propagate")
        propagate.layout().addWidget(self.propagate_menu)
        propagate.layout().addWidget(self.actions_["compare"])
        propagate.layout().setSpacing(2)
        self.sections["refine"].add(propagate, self.cockpit, self.closer, self.comparison)
        controls = QWidget(self)
        layout = QVBoxLayout(controls)
        layout.setSpacing(6)
        layout.addWidget(self.welcome)
        for key, section in self.sections.items():
            layout.addWidget(section)
            section.toggled.connect(lambda opened, key=key: self.section_toggled.emit(key, opened))
        self.comparison.grown.connect(self.sections["refine"].grown)
        layout.addStretch(1)
        self._arrange(controls)
        self.slices.set_limits(None)
        self.set_usable(False)
        self.set_empty(False)

    def set_empty(self, empty: bool) -> None:
        """Show how to come to an image instead of what needs one."""
        self.welcome.setVisible(empty)
        for section in self.sections.values():
            if section is not self.frames:  # which is hidden anyway where there are none
                section.setVisible(not empty)

    def set_usable(self, usable: bool, *, stack: bool = False) -> None:
        """Enable everything that needs an image, and propagation for volumes."""
        for widget in (
            self.modes,
            self.preview,
            self.brush,
            self.slices,
            self.objects,
            self.closer,
            self.classes.inner,
            *self.actions_.values(),
        ):
            widget.setEnabled(usable)
        for button in (self.save_options, self.session_button):
            button.setEnabled(usable)
        for widget in (self.actions_["propagate"], self.propagate_menu):
            widget.setEnabled(usable and stack)
        self.cockpit.setEnabled(usable)

    def set_open(self, opened: Mapping[str, bool]) -> None:
        """Open and close sections (key -> whether it is to be open)."""
        for key, section in self.sections.items():
            section.set_open(opened.get(key, section.is_open))

    def set_keys(self, keys: Mapping[str, str]) -> None:
        """Name shortcuts (action or mode -> key, empty for none) in the tooltips."""
        self.modes.set_keys(keys)
        for name, button in self.actions_.items():
            button.setToolTip(with_key(ACTIONS[name][1], keys.get(name, "")))
        self.readings.set_key(keys.get("reading", ""))
        self.cockpit.set_keys(keys)
        self.closer.set_key(keys.get("closer", ""))
        self.objects.new_button.setToolTip(with_key("The next prompts belong to another object", keys.get("new", "")))

    def _arrange(self, controls: QWidget) -> None:
        """Controls scroll in a low window; what is going on stays in sight."""
        area = QScrollArea(self)
        area.setWidgetResizable(True)
        area.setFrameShape(QScrollArea.Shape.NoFrame)
        area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        area.setWidget(controls)
        self._grown: Section | None = None
        scroll = QTimer(self)  # until the opened part has its place
        scroll.setSingleShot(True)
        scroll.setInterval(50)
        scroll.timeout.connect(lambda: area.ensureWidgetVisible(self._grown.end))
        for section in self.sections.values():
            section.grown.connect(lambda section=section: (setattr(self, "_grown", section), scroll.start()))
        area.setMinimumWidth(controls.minimumSizeHint().width() + area.verticalScrollBar().sizeHint().width())
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(self.offers)
        outer.addWidget(area, 1)
        outer.addWidget(_line())
        self.status.layout().setContentsMargins(9, 0, 9, 0)
        outer.addWidget(self.status)
        outer.addWidget(self._foot())
        # Else napari pushes the panel up, and the controls scroll while there is room below.
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)

    def _foot(self) -> QWidget:
        """What is seldom needed, and never while segmenting."""
        foot = QWidget(self)
        self.shortcuts_button = QPushButton("Shortcuts…", foot)
        self.shortcuts_button.setToolTip("See all keyboard shortcuts, and change them (key ?)")
        self.shortcuts_button.clicked.connect(lambda: self.shortcuts_wanted.emit())
        for key in ("?", "Shift+?"):  # napari's own bindings do not know this key
            question = QShortcut(QKeySequence(key), self)
            question.setContext(Qt.ShortcutContext.WindowShortcut)
            for heard in (question.activated, question.activatedAmbiguously):
                heard.connect(lambda: self.shortcuts_wanted.emit())
        row = QHBoxLayout(foot)
        row.setContentsMargins(9, 0, 9, 9)
        self.preferences_button = QPushButton("Preferences…", foot)
        self.preferences_button.setToolTip("Models, device, memory, folders, weight files: kept from start to start")
        self.preferences_button.clicked.connect(lambda: self.preferences_wanted.emit())
        self.place = PlaceButton(foot)
        row.addWidget(self.place, 1)
        row.addWidget(self.shortcuts_button)
        row.addWidget(self.preferences_button)
        return foot

    def _row(self, *names: str | QWidget) -> QWidget:
        row = QWidget(self)
        layout = QHBoxLayout(row)
        layout.setContentsMargins(0, 0, 0, 0)
        for name in names:
            layout.addWidget(self.actions_[name] if isinstance(name, str) else name, 1)
        return row

    def _on_action(self, name: str) -> None:
        if name != "save":
            self.wanted.emit(name)
            return
        each = self.save_options.each
        title = "Save one file an object: their names are added" if each else "Save all objects"
        title += {"this": "", "together": ", all frames", "apart": ", one file a frame"}[self.save_options.frames]
        chosen, _ = QFileDialog.getSaveFileName(self, title, str(self.suggested_file), FILE_TYPES)
        if chosen:
            self.save_wanted.emit(Path(chosen))


def _line() -> QFrame:
    line = QFrame()
    line.setFrameShape(QFrame.Shape.HLine)
    return line
