"""How it is learnt: recipe, base, name and folder; and what seldom has to be changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QDoubleSpinBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLineEdit,
    QPushButton,
    QSpinBox,
    QWidget,
)

from napari_sammed.plugin.views.choosers import Choice, Chooser
from napari_sammed.plugin.views.section import Section
from napari_sammed.plugin.views.small_print import SmallPrint

_DEVICES = [
    Choice("auto", "Auto", "A GPU if there is one"),
    Choice("cuda", "NVIDIA GPU"),
    Choice("mps", "Apple GPU"),
    Choice("cpu", "Processor", "Slow, but always there"),
]
_DECIMALS = 7


class HowSection(Section):
    """Which model learns, and what comes out.

    Signals
    -------
    recipe_chosen : str
        Name of the recipe.
    """

    recipe_chosen = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("What learns", "Which model learns, and what the new one is called", parent=parent)
        self.recipe = Chooser(parent=self, about="What learns what")
        self.base = Chooser(parent=self, about="The model to begin with")
        self.recipe_note, self.base_note = SmallPrint(self), SmallPrint(self)
        for note in (self.recipe_note, self.base_note):
            note.setWordWrap(True)
        self.name, self.out = QLineEdit(self), QLineEdit(self)
        self.name.setToolTip("Of the new model: small letters, digits, dots and dashes")
        self.out.setToolTip(
            "Folder of the run: what it has learnt is kept there, so that it can be stopped and gone on with"
        )
        self.pick_button = QPushButton("…", self)
        self.pick_button.setMaximumWidth(32)
        self.pick_button.setToolTip("Choose a folder")
        place = QHBoxLayout()
        place.addWidget(self.out, 1)
        place.addWidget(self.pick_button)
        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.addRow("Recipe", self.recipe)
        form.addRow(self.recipe_note)
        form.addRow("Begin with", self.base)
        form.addRow(self.base_note)
        form.addRow("Name", self.name)
        form.addRow("Folder", place)
        self.body.addLayout(form)
        self._recipe_notes: Mapping[str, str] = {}
        self._base_notes: Mapping[str, str] = {}
        self.recipe.currentIndexChanged.connect(lambda _: self._show_notes())
        self.base.currentIndexChanged.connect(lambda _: self._show_notes())
        self.recipe.chosen.connect(self.recipe_chosen)
        self.pick_button.clicked.connect(self._pick)

    def set_recipes(self, choices: Sequence[Choice], notes: Mapping[str, str]) -> None:
        """Offer recipes, with a sentence on each."""
        self._recipe_notes = notes
        self.recipe.set_choices(choices)
        self._show_notes()

    def set_bases(self, choices: Sequence[Choice], notes: Mapping[str, str]) -> None:
        """Offer models to begin with, with a sentence on each."""
        self._base_notes = notes
        self.base.set_choices(choices)
        self._show_notes()

    def _show_notes(self) -> None:
        self.recipe_note.setText(self._recipe_notes.get(self.recipe.key, ""))
        self.base_note.setText(self._base_notes.get(self.base.key, ""))

    def _pick(self) -> None:
        chosen = QFileDialog.getExistingDirectory(self, "Choose a folder for the run", self.out.text())
        if chosen:
            self.out.setText(str(Path(chosen) / self.name.text().strip()))


class MoreSection(Section):
    """What seldom has to be changed."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("More settings", "What seldom has to be changed", opened=False, parent=parent)
        self.steps, self.seed = QSpinBox(self), QSpinBox(self)
        self.steps.setRange(0, 10_000_000)
        self.steps.setSpecialValueText("as the recipe says")
        self.steps.setToolTip("How often weights are changed; more takes longer")
        self.seed.setRange(0, 2**31 - 1)
        self.seed.setToolTip("Of what is drawn by lot: the same seed gives the same model")
        self.rate = QDoubleSpinBox(self)
        self.rate.setDecimals(_DECIMALS)
        self.rate.setRange(0.0, 1.0)
        self.rate.setSingleStep(0.0001)
        self.rate.setSpecialValueText("as the recipe says")
        self.rate.setToolTip("How far each step goes; smaller if the loss rises")
        self.held_out = QSpinBox(self)
        self.held_out.setRange(0, 90)
        self.held_out.setValue(20)
        self.held_out.setSuffix(" % of the patients")
        self.held_out.setToolTip("These are not learnt from, so that Dice says how good the model is on others")
        self.patients = QLineEdit(self)
        self.patients.setPlaceholderText("each case another one")
        self.patients.setToolTip(r"Regular expression whose group says whose image a case is, such as (p\d+)_")
        self.device = Chooser(parent=self)
        self.device.set_choices(_DEVICES)
        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        for label, field in (
            ("Steps", self.steps),
            ("Learning rate", self.rate),
            ("Held out", self.held_out),
            ("Patients", self.patients),
            ("Seed", self.seed),
            ("Device", self.device),
        ):
            form.addRow(label, field)
        self.body.addLayout(form)
