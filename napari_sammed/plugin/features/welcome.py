"""The way to a first image from an empty panel."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_sammed import messages
from napari_sammed.plugin.files import sample_data
from napari_sammed.plugin.files.reader import read
from napari_sammed.plugin.gui_thread import Background, GuiThread
from napari_sammed.samples import load

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_sammed.plugin.views.panel import Panel


class Welcome:
    """Opens what the user picks in an empty panel; reading goes on beside the GUI thread.

    Parameters
    ----------
    viewer : napari viewer
    panel : Panel
    gui : GuiThread
    """

    def __init__(self, viewer: ViewerModel, panel: Panel, gui: GuiThread) -> None:
        self._viewer = viewer
        self._panel = panel
        self._gui = gui
        self._background = Background(gui)
        panel.welcome.opened.connect(self.open)
        panel.welcome.sample_wanted.connect(self.open_sample)

    def open(self, path: Path) -> None:
        """Open an image file, or a folder with a DICOM series."""
        self._open(path.name, lambda: read(str(path)))

    def open_sample(self, key: str) -> None:
        """Open a sample; some are fetched once."""

        def progress(done: int, total: int | None) -> None:
            share = f" {round(100 * done / total)} %" if total else ""
            self._gui.post(self._panel.status.murmur, f"Fetching{share}")

        self._open(f"the sample “{key}”", lambda: sample_data.layers_of(load(key, progress)))

    def close(self, wait: bool) -> None:
        """Open nothing any more."""
        self._background.close(wait)

    def _open(self, what: str, work: Callable[[], list[Any]]) -> None:
        def done(future: Future[list[Any]]) -> None:
            self._panel.welcome.set_busy(False)
            self._panel.status.murmur("")
            if future.exception() is not None:
                self._panel.status.say(messages.failure(future.exception()) or "")
                return
            from napari.layers import Layer

            for data in future.result():
                self._viewer.add_layer(Layer.create(*data))
            if hasattr(self._viewer, "reset_view"):
                self._viewer.reset_view()

        self._panel.welcome.set_busy(True)
        self._panel.status.say(f"Opening {what} …")
        self._background.run(work, done)
