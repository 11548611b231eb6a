"""The dock widget for annotating a folder of images."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, QTimer
from qtpy.QtGui import QCloseEvent
from qtpy.QtWidgets import QMainWindow, QVBoxLayout, QWidget

from napari_sammed.plugin.coordinator import Coordinator
from napari_sammed.plugin.series.work import SeriesWork
from napari_sammed.plugin.views.series import SeriesView
from napari_sammed.plugin.widget import SegmentWidget, dock_of

if TYPE_CHECKING:
    import napari


class SeriesWidget(QWidget):
    """Leads through a folder of images, which are segmented with the panel of `SegmentWidget`.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
        Given by napari.
    segment_widget : SegmentWidget, optional
        Default: the one in the viewer; if there is none, it is added.
    """

    def __init__(self, napari_viewer: napari.viewer.Viewer, segment_widget: SegmentWidget | None = None) -> None:
        super().__init__()
        self._viewer = napari_viewer
        self._segment_widget = segment_widget
        self.view = SeriesView()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.view)
        self.work = SeriesWork(napari_viewer, self.view, self._coordinator)
        self._arranged = False
        self._arrange = QTimer(self)  # once the panel has its place
        self._arrange.setSingleShot(True)
        self._arrange.timeout.connect(self._share_height)
        # napari destroys widgets without closing them when its window goes; by then `self` is no longer usable.
        self.destroyed.connect(partial(SeriesWork.close, self.work))

    def closeEvent(self, event: QCloseEvent) -> None:
        """Save what was done."""
        self.work.close()
        super().closeEvent(event)

    def _coordinator(self) -> Coordinator:
        """Of the panel that segments: the one in the viewer, which the user may have closed and opened again."""
        self._segment_widget = SegmentWidget.in_viewer(self._viewer, self._segment_widget)
        if not self._arranged:
            self._arranged = True
            self._arrange.start(0)
        return self._segment_widget.coordinator

    def _share_height(self) -> None:
        """Leave the panel what this dock does not need where both are in one column; the user may change that then."""
        docks = [dock_of(widget) for widget in (self, self._segment_widget)]
        window = self.window()
        if None in docks or not isinstance(window, QMainWindow) or docks[1] in window.tabifiedDockWidgets(docks[0]):
            return
        if docks[0].x() == docks[1].x() and not any(dock.isFloating() for dock in docks):
            both = sum(dock.height() for dock in docks)
            own = min(self.view.least_height + docks[0].height() - self.height(), both // 2)
            window.resizeDocks(docks, [own, both - own], Qt.Orientation.Vertical)
