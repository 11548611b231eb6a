"""Labels in colours of their own that can be read in dark themes and in light ones."""

from __future__ import annotations

from qtpy.QtCore import QEvent
from qtpy.QtGui import QPalette, QShowEvent
from qtpy.QtWidgets import QLabel, QWidget

GREY = ("#a3a7ae", "#5c5c5c")
"""Small print, on dark and on light."""
AMBER = ("#ffb300", "#8a5300")
"""Warnings."""


class ThemedLabel(QLabel):
    """A label whose colour follows the theme, which napari gives the widgets of its windows by a style sheet.

    Parameters
    ----------
    colours : tuple of str
        On dark and on light.
    style : str
        More of the style sheet.
    parent : QWidget, optional
    """

    def __init__(self, colours: tuple[str, str], style: str = "", parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._colours = colours
        self._style = style
        self._follow_theme()

    def changeEvent(self, event: QEvent) -> None:
        """Follow the theme."""
        super().changeEvent(event)
        if event.type() in (QEvent.Type.StyleChange, QEvent.Type.PaletteChange) and hasattr(self, "_style"):
            self._follow_theme()

    def showEvent(self, event: QShowEvent) -> None:
        """Follow the theme."""
        super().showEvent(event)
        self._follow_theme()

    def _follow_theme(self) -> None:
        around = self.parentWidget() or self
        around.ensurePolished()
        light = around.palette().color(QPalette.ColorRole.WindowText).lightness() < 128
        wanted = f"color: {self._colours[light]}; {self._style}"
        if wanted != self.styleSheet():  # setting it is a change of style, too
            self.setStyleSheet(wanted)


class SmallPrint(ThemedLabel):
    """Small and grey."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(GREY, "font-size: 11px;", parent)
