"""Looking closer at a part of the current object: around it, what is in view, or a drawn region."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sammed.backend.base import Prediction
from napari_sammed.errors import InputError
from napari_sammed.geometry import Box
from napari_sammed.plugin.coordinates import current_slice, displayed_axes, hidden_axis
from napari_sammed.plugin.frame import Frame
from napari_sammed.plugin.gui_thread import GuiThread
from napari_sammed.plugin.views.closer import AROUND, VIEW
from napari_sammed.session import Session

if TYPE_CHECKING:
    from concurrent.futures import Future

    from napari.components import Dims
    from napari.layers import Image, Labels

    from napari_sammed.plugin.layers import LayerWriter
    from napari_sammed.plugin.prompt_intake import PromptIntake
    from napari_sammed.plugin.views.panel import Panel

_DRAW = "Draw a rectangle around the part to look at closer; Escape leaves this."
_NOT_IN_3D = (
    "A part is chosen on a slice: switch back to the 2D display (the cube button below the layer list), or choose to "
    "look around the object."
)


class CloserLook:
    """Asks about the part of the image that the panel names, and frames it. All methods belong to the GUI thread.

    Parameters
    ----------
    writer : LayerWriter
    panel : Panel
    gui : GuiThread
    intake : PromptIntake
        Knows the settings of the panel.
    ask : callable
        Asks the session about the current object, in a part (None for around the object) and with the axis across the
        slices (None for the one of its prompts); gives the answer to come.
    attempt : callable
        Does something with the session and shows why it was refused.
    keys : mapping of str to callable
        Key bindings while the user draws.
    """

    def __init__(
        self,
        writer: LayerWriter,
        panel: Panel,
        gui: GuiThread,
        intake: PromptIntake,
        ask: Callable[[Session, Box | None, int | None], Future[Prediction]],
        attempt: Callable[[Callable[[Session], Any]], None],
        keys: Mapping[str, Callable[[Any], None]],
    ) -> None:
        self._writer = writer
        self._panel = panel
        self._gui = gui
        self._intake = intake
        self._ask = ask
        self._latest: Future[Prediction] | None = None
        self.frame = Frame(
            writer.viewer,
            writer.image,
            panel,
            gui.post,
            on_drawn=lambda box: attempt(lambda session: self._look(session, box)),
            on_drawing=self._on_drawing,
            keys=keys,
        )

    def start(self, session: Session) -> None:
        """Look closer, or have the user draw where; leaves the drawing if that is going on.

        Raises
        ------
        InputError
            If there is nothing to look at.
        """
        if self.frame.drawing:
            self.frame.hide()
            return
        if session.current is None:
            raise InputError("There is no object yet to look closer at: mark one with a click or a box first.")
        which = self._panel.closer.part.key
        if which != AROUND and self._writer.viewer.dims.ndisplay == 3:
            raise InputError(_NOT_IN_3D)
        self._intake.use_settings(session)
        session.around()  # refuses before anything is drawn
        if which == AROUND:
            self._look(session, None)
        elif which == VIEW:
            self._look(session, part_in_view(self._writer.image, self._writer.labels, self._writer.viewer.dims))
        else:
            self.frame.draw()

    def close(self) -> None:
        """Take the frame away."""
        self.frame.close()

    def _look(self, session: Session, part: Box | None) -> None:
        self._intake.use_settings(session)
        axis = None
        if part is not None:
            axis = hidden_axis(self._writer.viewer.dims, self._writer.image.ndim)
            if axis is not None and 3 in session.backend.card(session.model_for(part)).dimensions:
                part = through(part, axis, session.around())
        self._latest = answer = self._ask(session, part, axis)
        self.frame.show(session.history.done[-1].region)
        answer.add_done_callback(lambda done: self._gui.post(self._on_done, done))

    def _on_done(self, answer: Future[Prediction]) -> None:
        if answer is self._latest:
            self.frame.fade()

    def _on_drawing(self, drawing: bool) -> None:
        self._panel.closer.show_drawing(drawing)
        self._panel.status.say(_DRAW if drawing else "")


def part_in_view(image: Image, labels: Labels | None, dims: Dims) -> Box:
    """The part of an image that the user sees: of a volume, a part of the displayed slice.

    Parameters
    ----------
    image : Image
    labels : Labels or None
        A layer of the image's own grid; without it, of an image in several resolutions more than is seen may come back.
    dims : Dims
        Of the viewer, in 2D display.

    Returns
    -------
    Box
        In index coordinates, up to a voxel more than is seen on each side.

    Raises
    ------
    InputError
        If nothing of the image is in view.
    """
    layer = image if labels is None else labels
    step = layer.downsample_factors[layer.data_level] if layer.multiscale else 1
    low = np.floor(layer.corner_pixels[0] * step).astype(int)
    high = np.ceil((layer.corner_pixels[1] + 1) * step).astype(int)
    shown = list(displayed_axes(dims, image.ndim))
    axis, index = hidden_axis(dims, image.ndim), current_slice(image, dims)
    if axis is not None:
        low[axis], high[axis] = index, index + 1
    if (np.ptp(layer.corner_pixels, axis=0)[shown] == 0).any():
        raise InputError(f"Nothing of {image.name} is in view: move it into view, or choose to look around the object.")
    return Box(tuple(low.tolist()), tuple(high.tolist()))


def through(part: Box, axis: int, around: Box) -> Box:
    """A part of a slice, carried along ``axis`` as far as another box reaches."""
    low, high = list(part.low), list(part.high)
    low[axis], high[axis] = around.low[axis], around.high[axis]
    return Box(tuple(low), tuple(high))
