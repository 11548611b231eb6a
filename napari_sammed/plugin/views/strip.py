"""How far each slice of an object can be trusted: one bar a slice, along the axis that the user scrolls through."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from qtpy.QtCore import QEvent, QPointF, QRectF, QSize, Qt, Signal
from qtpy.QtGui import (
    QColor,
    QFont,
    QImage,
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPalette,
    QPixmap,
    QPolygonF,
)
from qtpy.QtWidgets import QSizePolicy, QToolTip, QWidget

from napari_sammed.backend.slice_quality import SliceQuality

ROWS = {"score": "score", "overlap": "overlap", "steadiness": "area"}
"""What the rows show, from the top: a property of `SliceQuality` -> its label. All of them are better the higher."""
_LOW, _MIDDLE, _HIGH = (np.array(c) for c in ((230, 97, 1), (178, 160, 128), (63, 143, 210)))  # for any eye, any theme
_WORST, _BEST = 0.4, 0.95  # values that have the outermost colours
_HERE = QColor("#40c4ff")
_ROW, _GAP, _MARK, _FOOT = 17, 3, 8, 14  # pixels: height of a row, space above it, the marks on top, numbers below
_HELP = "Click or drag to go to a slice; ▾ are slices that you marked, ▴ is the worst one."
_FAR = 10  # slices that a page has


class ConfidenceStrip(QWidget):
    """Bars of all slices, with those that the user has marked, the one that is shown and the worst one.

    A click or drag goes to a slice; with the focus, arrow keys, Page Up and Down, Home and End do.

    Signals
    -------
    chosen : int
        Slice that the user wants to see.
    """

    chosen = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("strip")
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setAccessibleName("Confidence of the slices")
        self.setMouseTracking(True)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self._count = 0
        self._slices: dict[int, SliceQuality] = {}
        self._worst: int | None = None
        self._current = 0
        self._bars: QPixmap | None = None  # everything but the current slice and the numbers

    # ---- what it shows -------------------------------------------------------------------------------------------

    def set_slices(self, count: int, slices: Sequence[SliceQuality], worst: int | None = None) -> None:
        """Show what is known of an object.

        Parameters
        ----------
        count : int
            Slices that the image has.
        slices : sequence of SliceQuality
            Of the object.
        worst : int or None
            Slice to point at.
        """
        self._count = count
        self._slices = {one.index: one for one in slices}
        self._worst = worst
        self._bars = None
        self.update()

    def set_current(self, index: int) -> None:
        """Show which slice the user sees."""
        if index != self._current:
            self._current = index
            self.update()

    @property
    def slices(self) -> Sequence[SliceQuality]:
        """What is shown."""
        return tuple(self._slices.values())

    def place_of(self, index: int) -> QPointF:
        """The middle of a slice's bars, in pixels of the widget."""
        area = self._area()
        return QPointF(area.left() + (index + 0.5) * area.width() / max(self._count, 1), area.center().y())

    def describe(self, index: int) -> str:
        """What is known of a slice, for people."""
        one = self._slices.get(index)
        if one is None or (one.voxels == 0 and not one.marked):
            return f"Slice {index}: nothing of the object"
        figures = {"score": one.score, "overlap with its neighbours": one.overlap, "jump of the area": one.jump}
        known = [f"{name} {value:.2f}" for name, value in figures.items() if not math.isnan(value)]
        said = ["marked by you"] if one.marked else []
        return f"Slice {index}: {', '.join([*said, *known]) or 'nothing to compare with'}"

    def sizeHint(self) -> QSize:
        return QSize(240, self._height())

    def minimumSizeHint(self) -> QSize:
        return QSize(120, self._height())

    # ---- painting ------------------------------------------------------------------------------------------------

    def paintEvent(self, event: QPaintEvent) -> None:
        text = self.palette().color(QPalette.ColorRole.WindowText)
        if self._bars is None or self._bars.deviceIndependentSize().toSize() != self.size():
            self._bars = self._painted_bars(text)
        painter = QPainter(self)
        painter.setFont(self._font())
        painter.drawPixmap(0, 0, self._bars)
        if self._count:
            self._paint_current(painter, text)
        if self.hasFocus():
            painter.setPen(_HERE)
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawRect(self._area().adjusted(-1, -_MARK, 0, 1))
        painter.end()

    def changeEvent(self, event: QEvent) -> None:
        """Another theme or font."""
        self._bars = None
        super().changeEvent(event)

    def _painted_bars(self, text: QColor) -> QPixmap:
        """Painted once for many places that the user looks at."""
        ratio = self.devicePixelRatioF()
        pixmap = QPixmap(self.size() * ratio)
        pixmap.setDevicePixelRatio(ratio)
        pixmap.fill(Qt.GlobalColor.transparent)
        painter = QPainter(pixmap)
        painter.setFont(self._font())
        painter.setPen(text)
        faint = QColor(text)
        faint.setAlpha(40)
        area = self._area()
        for row, label in enumerate(ROWS.values()):
            place = self._row(row)
            left = QRectF(0, place.top(), area.left() - 4, _ROW)
            painter.drawText(left, Qt.AlignmentFlag.AlignRight | _middle(), label)
            painter.fillRect(place, faint)
        if self._slices:
            self._paint_bars(painter)
            self._paint_marks(painter, text)
        elif self._count:
            painter.drawText(area, Qt.AlignmentFlag.AlignCenter, "no object across these slices yet")
        painter.end()
        return pixmap

    def _font(self) -> QFont:
        font = self.font()
        font.setPixelSize(11)
        return font

    def _paint_bars(self, painter: QPainter) -> None:
        """Where there are more slices than pixels, a pixel shows the lowest of its slices."""
        width = max(int(self._area().width()), 1)
        starts = np.arange(width) * self._count // width  # first slice of each column of pixels
        gaps = np.append(np.diff(starts) > 0, False) & (width >= 4 * self._count)
        for row, name in enumerate(ROWS):
            values = np.full(self._count, np.nan)
            for index, one in self._slices.items():
                if 0 <= index < self._count:
                    values[index] = getattr(one, name)
            lowest = np.fmin.reduceat(values, starts)
            known = ~np.isnan(lowest) & ~gaps
            lowest = np.clip(np.nan_to_num(lowest), 0, 1)
            heights = np.where(known, np.maximum(np.rint(lowest * _ROW), 1), 0)
            bars = np.zeros((_ROW, width, 4), np.uint8)
            bars[..., :3] = _colours(lowest)
            bars[..., 3] = 255 * (np.arange(_ROW, 0, -1)[:, None] <= heights)
            picture = QImage(bars.tobytes(), width, _ROW, 4 * width, QImage.Format.Format_RGBA8888)
            painter.drawImage(self._row(row), picture)

    def _paint_marks(self, painter: QPainter, text: QColor) -> None:
        area = self._area()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(text)
        for one in self._slices.values():
            if one.marked:
                x = self.place_of(one.index).x()
                painter.drawPolygon(_triangle(x, area.top() - 1, -_MARK + 2))
        if self._worst is not None:
            painter.setBrush(QColor(*_LOW.tolist()))
            painter.drawPolygon(_triangle(self.place_of(self._worst).x(), area.bottom() + 2, _MARK - 2))
        painter.setRenderHint(QPainter.RenderHint.Antialiasing, False)

    def _paint_current(self, painter: QPainter, text: QColor) -> None:
        area = self._area()
        x = self.place_of(self._current).x()
        painter.fillRect(QRectF(x - 1, area.top() - _MARK, 2, area.height() + _MARK + 2), _HERE)
        painter.setPen(text)
        below = QRectF(area.left(), area.bottom() + 1, area.width(), _FOOT)
        painter.drawText(below, Qt.AlignmentFlag.AlignLeft | _middle(), "0")
        painter.drawText(below, Qt.AlignmentFlag.AlignRight | _middle(), str(self._count - 1))
        number = f"slice {self._current}"
        width = painter.fontMetrics().horizontalAdvance(number)
        edge = painter.fontMetrics().horizontalAdvance("0000")
        left = min(max(x - width / 2, area.left() + edge), area.right() - edge - width)
        painter.drawText(QRectF(left, below.top(), width + 2, _FOOT), _middle(), number)

    # ---- hands ---------------------------------------------------------------------------------------------------

    def mousePressEvent(self, event: QMouseEvent) -> None:
        if event.button() == Qt.MouseButton.LeftButton:
            self._choose(self._index_at(event.pos().x()))

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        if event.buttons() & Qt.MouseButton.LeftButton:
            self._choose(self._index_at(event.pos().x()))

    def keyPressEvent(self, event: QKeyEvent) -> None:
        known = sorted(self._slices) or [0]
        target = {
            Qt.Key.Key_Left: self._current - 1,
            Qt.Key.Key_Right: self._current + 1,
            Qt.Key.Key_PageUp: self._current + _FAR,
            Qt.Key.Key_PageDown: self._current - _FAR,
            Qt.Key.Key_Home: known[0],
            Qt.Key.Key_End: known[-1],
        }.get(event.key())
        if target is None:
            super().keyPressEvent(event)
        else:
            self._choose(min(max(target, 0), self._count - 1))

    def event(self, event: QEvent) -> bool:
        if event.type() == QEvent.Type.ToolTip and self._count:
            index = self._index_at(event.pos().x())
            text = (
                f"{self.describe(index)}\nClick or drag to go to a slice; ▾ are slices that you marked, ▴ is the worst."
            )
            QToolTip.showText(event.globalPos(), text, self)
            return True
        return super().event(event)

    def _choose(self, index: int) -> None:
        if self._count:
            self.chosen.emit(index)

    def _index_at(self, x: float) -> int:
        area = self._area()
        return int(np.clip((x - area.left()) * self._count / max(area.width(), 1), 0, max(self._count - 1, 0)))

    def _height(self) -> int:
        return _MARK + len(ROWS) * (_ROW + _GAP) + _FOOT + 2

    def _area(self) -> QRectF:
        """Where the bars are."""
        left = 4 + max(self.fontMetrics().horizontalAdvance(label) for label in ROWS.values())
        return QRectF(left, _MARK, max(self.width() - left - 2, 1), len(ROWS) * (_ROW + _GAP))

    def _row(self, row: int) -> QRectF:
        area = self._area()
        return QRectF(area.left(), area.top() + row * (_ROW + _GAP) + _GAP, area.width(), _ROW)


def colour_of(value: float) -> QColor:
    """Orange for low values, blue for high ones: told apart with any colour vision, on dark and on light ground."""
    return QColor(*_colours(np.array([value]))[0].tolist())


def _colours(values: np.ndarray) -> np.ndarray:
    """Red, green and blue (N, 3) of values (N,)."""
    share = np.clip((values - _WORST) / (_BEST - _WORST), 0, 1)
    mixed = [np.interp(share, (0, 0.5, 1), channel) for channel in zip(_LOW, _MIDDLE, _HIGH, strict=True)]
    return np.rint(np.stack(mixed, axis=-1)).astype(np.uint8)


def _middle() -> Qt.AlignmentFlag:
    return Qt.AlignmentFlag.AlignVCenter


def _triangle(x: float, y: float, height: float) -> QPolygonF:
    """With its tip at (x, y); a negative height is above it."""
    half = abs(height) * 0.6
    return QPolygonF([QPointF(x, y), QPointF(x - half, y + height), QPointF(x + half, y + height)])
