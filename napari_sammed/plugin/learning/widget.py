"""The dock widget for learning from what was corrected."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtGui import QCloseEvent
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_sammed.plugin.learning.runs import PROGRAM
from napari_sammed.plugin.learning.work import LearnWork
from napari_sammed.plugin.views.learning import LearnView
from napari_sammed.plugin.widget import SegmentWidget, dock_of

if TYPE_CHECKING:
    import napari

    from napari_sammed.plugin.coordinator import Coordinator

TITLE = "Learn from corrections"


class LearnWidget(QWidget):
    """Has a model learn from what was corrected, beside napari, and hands it to the panel of `SegmentWidget`.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
        Given by napari.
    segment_widget : SegmentWidget, optional
        Default: the one in the viewer; if there is none, it is added when it is needed.
    program : sequence of str
        What is run; see `napari_sammed.plugin.learning.runs.PROGRAM`.
    """

    def __init__(
        self,
        napari_viewer: napari.viewer.Viewer,
        segment_widget: SegmentWidget | None = None,
        program: tuple[str, ...] = PROGRAM,
    ) -> None:
        super().__init__()
        self.view = LearnView(self)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.view)

        def coordinator() -> Coordinator:
            return SegmentWidget.in_viewer(napari_viewer, segment_widget).coordinator

        self.work = LearnWork(self.view, coordinator, program)
        # napari destroys widgets without closing them when its window goes; by then `self` is no longer usable.
        self.destroyed.connect(partial(LearnWork.close, self.work))

    def closeEvent(self, event: QCloseEvent) -> None:
        """Let the run go on, or end it, as the user has chosen."""
        self.work.close()
        super().closeEvent(event)


def show(viewer: napari.viewer.Viewer) -> None:
    """Bring the dock of a viewer to the front; it is added if there is none."""
    widget = next((each for each in viewer.window.dock_widgets.values() if isinstance(each, LearnWidget)), None)
    if widget is None:
        widget = LearnWidget(viewer)
        viewer.window.add_dock_widget(widget, name=TITLE, area="right", tabify=True)
    dock = dock_of(widget)
    dock.show()
    dock.raise_()
