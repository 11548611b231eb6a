"""The page of preferences, for every napari: since 0.9 the same values are in napari's own dialog, too."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDialog,
    QDoubleSpinBox,
    QFileDialog,
    QFormLayout,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

if TYPE_CHECKING:
    from napari_sammed.plugin.settings.preferences import Preference


class PreferencesDialog(QDialog):
    """A form of all preferences, and the weight files that the user has chosen.

    Parameters
    ----------
    preferences : mapping of str to Preference
    titles : mapping of str to str
        What values are called, where not by themselves.
    parent : QWidget, optional

    Signals
    -------
    wanted : str, object
        The user prefers another value.
    forget_wanted : str
        The user no longer wants the weight files of a model to be used.
    """

    wanted = Signal(str, object)
    forget_wanted = Signal(str)

    def __init__(
        self, preferences: Mapping[str, Preference], titles: Mapping[str, str], parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.setWindowTitle("Preferences")
        self.editors: dict[str, QWidget] = {}
        self._setters: dict[str, Callable[[Any], None]] = {}
        self._titles = titles
        layout = QVBoxLayout(self)
        forms: dict[str, QFormLayout] = {}
        for name, preference in preferences.items():
            form = forms.get(preference.section)
            if form is None:
                box = QGroupBox(preference.section_title, self)
                form = forms[preference.section] = QFormLayout(box)
                form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
                layout.addWidget(box)
            editor = self._editor(name, preference)
            self.editors[name].setToolTip(preference.description)
            label = QLabel(preference.title, self)
            label.setToolTip(preference.description)
            form.addRow(label, editor)
        self.files_box = QGroupBox("Weight files of your own", self)
        self.files = QVBoxLayout(self.files_box)
        layout.addWidget(self.files_box)
        self.message = QLabel(self)
        self.message.setWordWrap(True)
        self.close_button = QPushButton("Close", self)
        self.close_button.setToolTip("Keep everything as it is shown")
        self.close_button.setAutoDefault(False)
        self.close_button.clicked.connect(self.close)
        below = QHBoxLayout()
        below.addWidget(self.message, 1)
        below.addWidget(self.close_button)
        layout.addLayout(below)
        self.set_files({})
        self.resize(520, self.sizeHint().height())

    def set_values(self, values: Mapping[str, Any]) -> None:
        """Show these."""
        for name, value in values.items():
            self.editors[name].blockSignals(True)
            self._setters[name](value)
            self.editors[name].blockSignals(False)

    def set_files(self, files: Mapping[str, str]) -> None:
        """Show which weight files are used: name of a model -> what is said of its files."""
        while (item := self.files.takeAt(0)) is not None:
            item.widget().deleteLater()
        for model, text in files.items():
            row = QWidget(self.files_box)
            inner = QHBoxLayout(row)
            inner.setContentsMargins(0, 0, 0, 0)
            label = QLabel(text, row)
            label.setWordWrap(True)
            button = QPushButton("Forget", row)
            button.setToolTip("Use the official weights of this model again")
            button.setAutoDefault(False)
            button.clicked.connect(lambda _, model=model: self.forget_wanted.emit(model))
            inner.addWidget(label, 1)
            inner.addWidget(button)
            self.files.addWidget(row)
        self.files_box.setVisible(bool(files))

    def say(self, text: str) -> None:
        """Show what has become of a change."""
        self.message.setText(text)

    # ---- inside --------------------------------------------------------------------------------------------------

    def _editor(self, name: str, preference: Preference) -> QWidget:
        """Makes what edits a preference; gives it with what stands beside it."""
        if preference.choices:
            box = QComboBox(self)
            for choice in preference.choices:
                box.addItem(self._titles.get(choice, choice), choice)
            box.activated.connect(lambda row: self.wanted.emit(name, box.itemData(row)))
            return self._made(name, box, lambda value: box.setCurrentIndex(box.findData(value)))
        if preference.kind is bool:
            check = QCheckBox(preference.description.partition(". ")[0], self)
            check.toggled.connect(lambda on: self.wanted.emit(name, on))
            return self._made(name, check, check.setChecked)
        if preference.kind in (int, float):
            spin = QSpinBox(self) if preference.kind is int else QDoubleSpinBox(self)
            spin.setRange(preference.kind(preference.minimum), preference.kind(preference.maximum))
            if preference.kind is float:
                spin.setDecimals(1)
                spin.setSuffix(" GiB")
            spin.setKeyboardTracking(False)
            spin.valueChanged.connect(lambda value: self.wanted.emit(name, preference.kind(value)))
            return self._made(name, spin, spin.setValue)
        return self._folder(name, preference)

    def _folder(self, name: str, preference: Preference) -> QWidget:
        line = QLineEdit(self)
        line.setPlaceholderText("the usual one" if name == "sessions" else "none")
        line.editingFinished.connect(lambda: self.wanted.emit(name, line.text().strip()))
        button = QPushButton("Choose…", self)
        button.setToolTip(f"Pick the folder: {preference.title.lower()}")
        button.setAutoDefault(False)

        def choose() -> None:
            chosen = QFileDialog.getExistingDirectory(self, preference.title, line.text())
            if chosen:
                line.setText(chosen)
                self.wanted.emit(name, chosen)

        button.clicked.connect(choose)
        row = QWidget(self)
        inner = QHBoxLayout(row)
        inner.setContentsMargins(0, 0, 0, 0)
        inner.addWidget(line, 1)
        inner.addWidget(button)
        self._made(name, line, line.setText)
        return row

    def _made(self, name: str, editor: QWidget, setter: Callable[[Any], None]) -> QWidget:
        self.editors[name] = editor
        self._setters[name] = setter
        return editor
