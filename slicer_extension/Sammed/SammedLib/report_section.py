"""The panel's section "This computer": what helps those who help."""

from __future__ import annotations

from typing import Any

import qt
from slicer.i18n import tr as _

from . import diagnosis
from .presenter import Presenter


class ReportSection:
    """Its buttons.

    Parameters
    ----------
    ui : namespace
        Widgets of the panel by name.
    presenter : Presenter
    """

    def __init__(self, ui: Any, presenter: Presenter) -> None:
        self._ui = ui
        self._presenter = presenter
        for name, action in (
            ("checkButton", self._on_check),
            ("copyButton", self._on_copy),
            ("folderButton", self._on_folder),
        ):
            getattr(ui, name).clicked.connect(lambda *_, action=action: action())

    def show(self) -> None:
        """What is known at once."""
        self._ui.reportText.setPlainText(diagnosis.summary())

    def _on_check(self) -> None:
        self._ui.reportText.setPlainText(_("Looking at devices and weights …"))
        self._presenter.run(diagnosis.full_report, self._ui.reportText.setPlainText)

    def _on_copy(self) -> None:
        qt.QApplication.clipboard().setText(self._ui.reportText.toPlainText())
        self._presenter.say(_("Copied: paste it into a bug report."))

    def _on_folder(self) -> None:
        folder = diagnosis.weights_folder()
        if folder is None:
            self._presenter.say(_("There are no weights on this computer yet."))
        else:
            qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(folder)))
