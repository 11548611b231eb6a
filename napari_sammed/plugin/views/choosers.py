"""Choosing the image, the model and the mapping of grey values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

AUTO = "auto"
DISPLAYED = "displayed"
CUSTOM = "custom"


@dataclass(frozen=True)
class Choice:
    """An entry of a chooser: what is reported, what is read, what is said under the pointer."""

    key: str
    label: str
    tooltip: str = ""


@dataclass(frozen=True)
class Weights:
    """How the weights of a model can be had: the text of a button that fetches them, if any; files of the user's."""

    fetch: str = ""
    files: bool = True


class Chooser(QComboBox):
    """A combo box of choices; `about` is said under the pointer of those that say nothing themselves.

    Signals
    -------
    chosen : str
        Key of the choice that the user picked; not emitted for changes by the program.
    """

    chosen = Signal(str)

    def __init__(self, empty: str = "", parent: QWidget | None = None, about: str = "") -> None:
        super().__init__(parent)
        self._empty = empty
        self._about = about
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(12)
        self.activated.connect(lambda row: self.chosen.emit(self.itemData(row)))
        self.currentIndexChanged.connect(lambda _: self._show_tooltip())
        self.set_choices([])

    def set_choices(self, choices: Sequence[Choice]) -> None:
        """Offer these; stays with the key that was current if it is among them."""
        current = self.key
        self.blockSignals(True)
        self.clear()
        for row, choice in enumerate(choices):
            self.addItem(choice.label, choice.key)
            self.setItemData(row, choice.tooltip, Qt.ItemDataRole.ToolTipRole)
        if not choices and self._empty:
            self.addItem(self._empty, "")
        self.setEnabled(bool(choices))
        self.setCurrentIndex(max(self.findData(current), 0))
        self.blockSignals(False)
        self._show_tooltip()

    @property
    def key(self) -> str:
        """Of the current choice; empty if there is none."""
        return self.currentData() or ""

    def set_key(self, key: str) -> None:
        """Show a choice without reporting it."""
        row = self.findData(key)
        if row >= 0:
            self.setCurrentIndex(row)

    def _show_tooltip(self) -> None:
        self.setToolTip(self.itemData(self.currentIndex(), Qt.ItemDataRole.ToolTipRole) or self._about)


class ModelChooser(QWidget):
    """The model, and what there is to know about it before the first click.

    Signals
    -------
    chosen : str
        Registry name, or "auto".
    fetch_wanted : str
        The user wants the weights of the model fetched, or no longer.
    files_wanted : str
        The user has weight files for the model.
    """

    chosen = Signal(str)
    fetch_wanted = Signal(str)
    files_wanted = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.box = Chooser(parent=self, about="The model that answers")
        self.note = QLabel(self)
        self.note.setWordWrap(True)
        self.note.setOpenExternalLinks(True)
        self.note.setObjectName("note")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addWidget(self.box)
        layout.addWidget(self.note)
        self.fetch_button, self.files_button = QPushButton(self), QPushButton("Weights file…", self)
        self.fetch_button.setToolTip("Fetch the weights now; their licence is shown first")
        self.files_button.setToolTip("Use a weight file that you have; it is checked first, and nothing in it is run")
        buttons = QHBoxLayout()
        for button, signal in ((self.fetch_button, self.fetch_wanted), (self.files_button, self.files_wanted)):
            button.clicked.connect(lambda _, signal=signal: signal.emit(self.key))
            buttons.addWidget(button)
        layout.addLayout(buttons)
        self._notes: dict[str, str] = {}
        self._weights: dict[str, Weights] = {}
        self.box.chosen.connect(self._on_chosen)

    def set_models(
        self, choices: Sequence[Choice], notes: Mapping[str, str], weights: Mapping[str, Weights] | None = None
    ) -> None:
        """Offer models; ``notes`` says what is shown under each, ``weights`` how to get theirs, if they need any."""
        self._notes = dict(notes)
        self._weights = dict(weights or {})
        self.box.set_choices(choices)
        self._show_note()

    @property
    def key(self) -> str:
        return self.box.key

    def choose(self, key: str) -> bool:
        """Choose a model for the user, if it is offered; whether it is."""
        if self.box.findData(key) < 0:
            return False
        self.box.set_key(key)
        self._on_chosen(key)
        return True

    def _on_chosen(self, key: str) -> None:
        self._show_note()
        self.chosen.emit(key)

    def _show_note(self) -> None:
        text = self._notes.get(self.box.key, "")
        self.note.setText(text)
        self.note.setVisible(bool(text))
        weights = self._weights.get(self.box.key, Weights(files=False))
        self.fetch_button.setText(weights.fetch)
        self.fetch_button.setVisible(bool(weights.fetch))
        self.files_button.setVisible(weights.files)


class WindowChooser(QWidget):
    """How grey values are mapped before a network sees them.

    Signals
    -------
    chosen : str
        "auto", "displayed", "custom" (see `custom`) or the key of a preset.
    """

    chosen = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.box = Chooser(parent=self)
        self.level = _number(-100_000, 100_000, 40, "Grey value in the middle")
        self.width_ = _number(
            0.001, 200_000, 400, "From the darkest to the brightest grey value that can be told apart"
        )
        self.custom_row = QWidget(self)
        row = QFormLayout(self.custom_row)
        row.setContentsMargins(0, 0, 0, 0)
        row.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        for text, box in (("Level", self.level), ("Width", self.width_)):
            row.addRow(text, box)
            box.editingFinished.connect(lambda: self.chosen.emit(CUSTOM))
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addWidget(self.box)
        layout.addWidget(self.custom_row)
        self.custom_row.hide()
        self.box.chosen.connect(self.chosen)
        self.box.currentIndexChanged.connect(lambda _: self.custom_row.setVisible(self.key == CUSTOM))

    def set_presets(self, presets: Mapping[str, str]) -> None:
        """Offer presets (key -> label) between "auto" and the free choices."""
        choices = [Choice(AUTO, "Auto", "As the image needs: soft tissue for CT, percentiles for other scans")]
        choices += [Choice(key, label) for key, label in presets.items()]
        choices += [
            Choice(DISPLAYED, "As displayed", "The contrast limits of the image layer, at the moment of each prompt"),
            Choice(CUSTOM, "Custom level and width", "A window of your own, in the image's grey values"),
        ]
        self.box.set_choices(choices)

    @property
    def key(self) -> str:
        return self.box.key

    @property
    def custom(self) -> tuple[float, float]:
        """Level and width."""
        return self.level.value(), self.width_.value()


class ImageSection(QWidget):
    """Image, model and grey values, one below the other."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.image = Chooser("Open or drop an image", self, "The image layer that is segmented")
        self.model = ModelChooser(self)
        self.window_ = WindowChooser(self)
        self.form = form = QFormLayout(self)
        form.setContentsMargins(0, 0, 0, 0)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.addRow("Image", self.image)
        form.addRow("Model", self.model)
        form.addRow("Grey values", self.window_)


def _number(low: float, high: float, value: float, tooltip: str) -> QDoubleSpinBox:
    box = QDoubleSpinBox()
    box.setDecimals(2)
    box.setRange(low, high)
    box.setValue(value)
    box.setToolTip(tooltip)
    return box
