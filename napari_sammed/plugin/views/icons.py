"""Small icons that the views draw themselves, in the colours of whatever theme is on."""

from __future__ import annotations

from qtpy.QtCore import QPointF, QRectF, Qt
from qtpy.QtGui import QColor, QIcon, QPainter, QPainterPath, QPen, QPixmap

SIDE = 14  # pixels on the screen
_FINER = 3  # drawn so much larger, for screens with many pixels
_FAINT = 0.35  # opacity of the icon for the usual state, which should not ask for attention


def swatch(colour: tuple[float, float, float, float]) -> QIcon:
    """A square of a colour (red, green, blue, opacity from 0 to 1), for a list."""
    return filled(QColor.fromRgbF(*colour[:3]))


def filled(colour: QColor) -> QIcon:
    """A square of a colour."""
    pixmap = QPixmap(SIDE, SIDE)
    pixmap.fill(colour)
    return _icon(pixmap)


def eye(visible: bool, ink: QColor) -> QIcon:
    """An eye, crossed out and faint for what is hidden."""
    pixmap, painter = _canvas(ink, 1 if visible else _FAINT)
    outline = QPainterPath(QPointF(0.5, 7))
    outline.quadTo(7, -0.5, 13.5, 7)
    outline.quadTo(7, 14.5, 0.5, 7)
    painter.drawPath(outline)
    painter.drawEllipse(QPointF(7, 7), 2, 2)
    if not visible:
        painter.drawLine(QPointF(2, 12.5), QPointF(12, 1.5))
    painter.end()
    return _icon(pixmap)


def padlock(locked: bool, ink: QColor) -> QIcon:
    """A padlock, open and faint for what can be changed."""
    pixmap, painter = _canvas(ink, 1 if locked else _FAINT)
    painter.drawRoundedRect(QRectF(2.5, 6.5, 9, 6.5), 1, 1)
    if locked:
        painter.fillRect(QRectF(2.5, 6.5, 9, 6.5), ink)
    shackle = QPainterPath(QPointF(4, 6.5))
    shackle.lineTo(4, 4)
    shackle.quadTo(4, 1, 7, 1)
    shackle.quadTo(10, 1, 10, 4)
    if locked:
        shackle.lineTo(10, 6.5)
    painter.drawPath(shackle)
    painter.end()
    return _icon(pixmap)


def _icon(pixmap: QPixmap) -> QIcon:
    """In selected rows too as it is, where Qt would tint it."""
    icon = QIcon(pixmap)
    icon.addPixmap(pixmap, QIcon.Mode.Selected)
    return icon


def _canvas(ink: QColor, opacity: float) -> tuple[QPixmap, QPainter]:
    pixmap = QPixmap(SIDE * _FINER, SIDE * _FINER)
    pixmap.setDevicePixelRatio(_FINER)
    pixmap.fill(Qt.GlobalColor.transparent)
    painter = QPainter(pixmap)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setOpacity(opacity)
    painter.setPen(QPen(ink, 1.3))
    return pixmap, painter
