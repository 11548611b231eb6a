"""A run as it goes: progress, curves, and what it has come to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from qtpy.QtCore import QSize, Qt, QTimer, Signal
from qtpy.QtGui import QImage, QPainter, QPaintEvent, QPalette, QPixmap, QResizeEvent
from qtpy.QtWidgets import (
    QCheckBox,
    QHeaderView,
    QLabel,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QTableWidget,
    QTableWidgetItem,
    QWidget,
)

from napari_sammed.plugin.views.choosers import Choice, Chooser
from napari_sammed.plugin.views.learning_data import ProblemList
from napari_sammed.plugin.views.section import Section
from napari_sammed.plugin.views.small_print import SmallPrint

NEW = ""
"""Key of the run that is yet to be begun."""

_STEPS = 1000
_CALM = 200  # ms after which a new size is drawn anew
_COLUMNS = ("Dice", "Before", "After", "Gain")


class RunSection(Section):
    """One run, chosen among those there are.

    Signals
    -------
    chosen : str
        Folder of another run, or `NEW`.
    use_wanted, report_wanted
        The user wants the new model to be used, or to read the report.
    """

    chosen = Signal(str)
    use_wanted = Signal()
    report_wanted = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("Run", "How far it is, and what it has come to", parent=parent)
        self.runs = Chooser(
            parent=self, about="Runs that were begun here; any of them can be looked at or gone on with"
        )
        self.about = SmallPrint(self)
        self.about.setWordWrap(True)
        self.bar = QProgressBar(self)
        self.bar.setRange(0, _STEPS)
        self.bar.setTextVisible(False)
        self.bar.setMaximumHeight(10)
        self.text = QLabel(self)
        self.text.setWordWrap(True)
        self.text.setTextFormat(Qt.TextFormat.PlainText)
        self.text.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.goes_on = QCheckBox("Goes on when napari is closed", self)
        self.goes_on.setChecked(True)
        self.goes_on.setToolTip(
            "The run is a program of its own: this dock finds it again another day. Without the mark it is stopped "
            "when the dock or napari is closed; what was learnt is kept, and it can be gone on with"
        )
        self.problems = ProblemList(self)
        self.curves = CurvePicture(self)
        self.table = QTableWidget(0, len(_COLUMNS), self)
        self.table.setHorizontalHeaderLabels(_COLUMNS)
        self.table.verticalHeader().hide()
        self.table.setEditTriggers(QTableWidget.EditTrigger.NoEditTriggers)
        self.table.setSelectionMode(QTableWidget.SelectionMode.NoSelection)
        self.table.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.table.setToolTip("Mean Dice on what was held out, with the model as it was before and as it is now")
        self.use_button = QPushButton("Use this model", self)
        self.use_button.setToolTip("Take it in among the models, and choose it in the panel that segments")
        self.report_button = QPushButton("Report", self)
        self.report_button.setToolTip("Curves, figures, settings and pictures on one page, in your browser")
        self.add(self.runs, self.about, self.bar, self.text, self.goes_on, self.problems, self.curves, self.table)
        self.add(self.use_button, self.report_button)
        self.runs.chosen.connect(self.chosen)
        self.use_button.clicked.connect(lambda: self.use_wanted.emit())
        self.report_button.clicked.connect(lambda: self.report_wanted.emit())
        self.clear()

    def clear(self) -> None:
        """No run."""
        for widget in (
            self.about,
            self.bar,
            self.goes_on,
            self.curves,
            self.table,
            self.use_button,
            self.report_button,
        ):
            widget.hide()
        self.problems.set_problems([])
        self.curves.set_picture(None)
        self.say("")

    def set_runs(self, runs: Sequence[Path], current: Path | None) -> None:
        """Offer earlier runs and a new one."""
        choices = [Choice(NEW, "A new run", "Begin another one")]
        choices += [Choice(str(path), path.name, str(path)) for path in runs]
        self.runs.set_choices(choices)
        self.runs.set_key(NEW if current is None else str(current))

    def say(self, text: str) -> None:
        self.text.setText(text)
        self.text.setVisible(bool(text))

    def set_progress(self, share: float | None) -> None:
        """How far it is, 0 to 1; None while it is not at work."""
        self.bar.setVisible(share is not None)
        self.goes_on.setVisible(share is not None)
        self.bar.setValue(round(_STEPS * min(max(share or 0.0, 0.0), 1.0)))

    def set_figures(self, before: Mapping[str, float], after: Mapping[str, float]) -> None:
        """Dice by structure, the mean last."""
        names = [name for name in after if name != "score"]
        rows = [(name, name) for name in names] + ([("score", "Mean")] if len(names) != 1 else [])
        self.table.setRowCount(len(rows))
        for row, (key, title) in enumerate(rows):
            old, new = before.get(key, math.nan), after.get(key, math.nan)
            texts = (title, _figure(old), _figure(new), _figure(new - old, sign=True))
            for column, text in enumerate(texts):
                item = QTableWidgetItem(text)
                if column:
                    item.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
                item.setToolTip(title)
                self.table.setItem(row, column, item)
        header = self.table.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        self.table.resizeRowsToContents()
        height = header.sizeHint().height() + sum(self.table.rowHeight(row) for row in range(len(rows))) + 4
        self.table.setFixedHeight(min(height, 220))
        self.table.setVisible(bool(rows))

    def figures(self) -> list[tuple[str, ...]]:
        """What the table says."""
        columns = range(len(_COLUMNS))
        return [tuple(self.table.item(row, c).text() for c in columns) for row in range(self.table.rowCount())]


class CurvePicture(QWidget):
    """A picture of curves that somebody else draws, in the size that there is.

    Signals
    -------
    wanted
        It has another size or theme: draw anew.
    """

    wanted = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setAccessibleName("Loss and Dice over the steps")
        self.setToolTip("Above: the loss, which should fall. Below: Dice on what was held out, which should rise")
        self._pixmap: QPixmap | None = None
        self._calm = QTimer(self)
        self._calm.setSingleShot(True)
        self._calm.setInterval(_CALM)
        self._calm.timeout.connect(self.wanted)

    @property
    def colour(self) -> str:
        """Of words in this theme."""
        return self.palette().color(QPalette.ColorRole.WindowText).name()

    def set_picture(self, pixels: np.ndarray | None) -> None:
        """Show pixels, (height, width, 4) of uint8; None for nothing."""
        self._pixmap = None
        if pixels is not None:
            height, width, _ = pixels.shape
            image = QImage(pixels.tobytes(), width, height, 4 * width, QImage.Format.Format_RGBA8888)
            self._pixmap = QPixmap.fromImage(image)
        self.setVisible(pixels is not None)
        self.update()

    def sizeHint(self) -> QSize:
        return QSize(300, 250)

    def minimumSizeHint(self) -> QSize:
        return QSize(200, 250)

    def paintEvent(self, event: QPaintEvent) -> None:
        if self._pixmap is not None:
            painter = QPainter(self)
            painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
            painter.drawPixmap(self.rect(), self._pixmap)
            painter.end()

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Have it drawn in the new size, once that stays."""
        super().resizeEvent(event)
        self._calm.start()


def _figure(value: float, *, sign: bool = False) -> str:
    return "" if math.isnan(value) else f"{value:+.3f}" if sign else f"{value:.3f}"
