"""Whether the coming mask is shown under the pointer, and why not."""

from __future__ import annotations

from qtpy.QtWidgets import QCheckBox, QSizePolicy, QWidget

from napari_sammed.plugin.views.small_print import SmallPrint

_TOOLTIP = (
    "While you choose where to click, a dashed outline shows the mask that the click would give.\n"
    "Nothing changes until you click. It needs an encoded slice and a quick model; clicks always go first."
)


class PreviewBox(QCheckBox):
    """A checkbox, and small print for when it was switched off by itself.

    Attributes
    ----------
    note : QLabel
        The small print, to be placed below.
    insisted : bool
        Whether the user has switched it on again after that.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("Preview", parent)
        self.setObjectName("preview")
        self.setToolTip(_TOOLTIP)
        self.setChecked(True)
        self.setSizePolicy(QSizePolicy.Policy.Maximum, QSizePolicy.Policy.Fixed)  # right of its text it is no box
        self.note = SmallPrint(parent)
        self.note.setObjectName("preview-note")
        self.note.setWordWrap(True)
        self.note.hide()
        self.insisted = False
        self.clicked.connect(self._on_clicked)

    def give_up(self, why: str) -> None:
        """Switch it off and say why in small print, unless the user has switched it on again after that."""
        if self.insisted or not self.isChecked():
            return
        self.note.setText(why)
        self.note.show()
        self.setChecked(False)

    def _on_clicked(self, checked: bool) -> None:
        self.insisted = self.insisted or (checked and not self.note.isHidden())
        self.note.hide()
