"""The dock widget: the panel, and the coordinator behind it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtGui import QCloseEvent
from qtpy.QtWidgets import QDockWidget, QVBoxLayout, QWidget

from napari_sammed.plugin.coordinator import Coordinator
from napari_sammed.plugin.views.panel import Panel

if TYPE_CHECKING:
    import napari

    from napari_sammed.backend.base import Backend

TITLE = "Segment by clicks and boxes"


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

    @classmethod
    def in_viewer(cls, viewer: napari.viewer.Viewer, own: SegmentWidget | None = None) -> SegmentWidget:
        """The one in a viewer, `own` before others; it is added if there is none that has not been closed."""
        if own is not None and not own.coordinator.closed:
            return own
        docked = [widget for widget in viewer.window.dock_widgets.values() if isinstance(widget, cls)]
        found = next((widget for widget in docked if not widget.coordinator.closed), None)
        if found is None:
            found = cls(viewer)
            viewer.window.add_dock_widget(found, name=TITLE, area="right")
        return found

    def closeEvent(self, event: QCloseEvent) -> None:
        """End session and threads."""
        self.coordinator.close()
        super().closeEvent(event)


def dock_of(widget: QWidget | None) -> QDockWidget | None:
    """The dock that a widget was put into."""
    while widget is not None and not isinstance(widget, QDockWidget):
        widget = widget.parentWidget()
    return widget
