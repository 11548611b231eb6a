"""The dock widget: the panel in a scroll area, and the coordinator behind it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtGui import QCloseEvent
from qtpy.QtWidgets import QScrollArea, QVBoxLayout, QWidget

from napari_sammed.plugin.coordinator import Coordinator
from napari_sammed.plugin.views.panel import Panel

if TYPE_CHECKING:
    import napari

    from napari_sammed.backend.base import Backend


class SegmentWidget(QWidget):
    """Interactive segmentation of the images in a viewer.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
        Given by napari.
    backend : Backend, optional
        What answers the prompts; one on this machine without.
    """

    def __init__(self, napari_viewer: napari.viewer.Viewer, backend: Backend | None = None) -> None:
        super().__init__()
        self.panel = Panel()
        area = QScrollArea()
        area.setWidgetResizable(True)
        area.setFrameShape(QScrollArea.Shape.NoFrame)
        area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        area.setWidget(self.panel)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(area)
        self.setMinimumWidth(self.panel.minimumSizeHint().width() + area.verticalScrollBar().sizeHint().width())
        self.coordinator = Coordinator(napari_viewer, self.panel, backend)
        # napari destroys widgets without closing them when its window goes; by then `self` is no longer usable.
        self.destroyed.connect(partial(Coordinator.close, self.coordinator))

    def closeEvent(self, event: QCloseEvent) -> None:
        """End session and threads."""
        self.coordinator.close()
        super().closeEvent(event)
