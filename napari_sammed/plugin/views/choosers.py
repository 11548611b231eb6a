"""Choosing the image, the model and the mapping of grey values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QComboBox, QDoubleSpinBox, QFormLayout, QLabel, QVBoxLayout, QWidget

AUTO = "auto"
DISPLAYED = "displayed"
CUSTOM = "custom"


@dataclass(frozen=True)
class Choice:
    """An entry of a chooser: what is reported, what is read, what is said under the pointer."""

    key: str
    label: str
    tooltip: str = ""


class Chooser(QComboBox):
    """A combo box of choices.

    Signals
    -------
    chosen : str
        Key of the choice that the user picked; not emitted for changes by the program.
    """

    chosen = Signal(str)

    def __init__(self, empty: str = "", parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._empty = empty
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
        self.setToolTip(self.itemData(self.currentIndex(), Qt.ItemDataRole.ToolTipRole) or "")


class ModelChooser(QWidget):
    """The model, and what there is to know about it before the first click.

    Signals
    -------
    chosen : str
        Registry name, or "auto".
    """

    chosen = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.box = Chooser(parent=self)
        self.note = QLabel(self)
        self.note.setWordWrap(True)
        self.note.setObjectName("note")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addWidget(self.box)
        layout.addWidget(self.note)
        self._notes: dict[str, str] = {}
        self.box.chosen.connect(self._on_chosen)

    def set_models(self, choices: Sequence[Choice], notes: Mapping[str, str]) -> None:
        """Offer models; ``notes`` says what is shown under each."""
        self._notes = dict(notes)
        self.box.set_choices(choices)
        self._show_note()

    @property
    def key(self) -> str:
        return self.box.key

    def _on_chosen(self, key: str) -> None:
        self._show_note()
        self.chosen.emit(key)

    def _show_note(self) -> None:
        text = self._notes.get(self.box.key, "")
        self.note.setText(text)
        self.note.setVisible(bool(text))


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
        self.image = Chooser("Open or drop an image", self)
        self.model = ModelChooser(self)
        self.window_ = WindowChooser(self)
        form = QFormLayout(self)
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
