"""The dock widget: the panel, and the coordinator behind it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtGui import QCloseEvent
from qtpy.QtWidgets import QVBoxLayout, QWidget

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
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.panel)
        self.coordinator = Coordinator(napari_viewer, self.panel, backend)
        # napari destroys widgets without closing them when its window goes; by then `self` is no longer usable.
        self.destroyed.connect(partial(Coordinator.close, self.coordinator))

    def closeEvent(self, event: QCloseEvent) -> None:
        """End session and threads."""
        self.coordinator.close()
        super().closeEvent(event)
