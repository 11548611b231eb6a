"""Several models on the current object's prompts: outlines, a map of where they differ, and one of them taken over."""

from __future__ import annotations

import math
from concurrent.futures import CancelledError, Future
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QTimer

from napari_sammed import messages
from napari_sammed.backend.base import Prediction
from napari_sammed.errors import InputError
from napari_sammed.plugin.image.coordinates import current_slice, hidden_axis, matrix_of
from napari_sammed.plugin.image.images import OWN_KEY
from napari_sammed.plugin.image.in_view import camera_of
from napari_sammed.plugin.layers.helpers import keeping_active
from napari_sammed.plugin.layers.outlines import Outline, Outlines, around
from napari_sammed.plugin.layers.taking_away import hide_and_take_away
from napari_sammed.plugin.views.choosers import AUTO
from napari_sammed.plugin.views.comparison import AnswerRow
from napari_sammed.session import Comparison, Session
from napari_sammed.session.agreement import Agreement, agreement

if TYPE_CHECKING:
    from napari.layers import Image, Labels

    from napari_sammed.plugin.desk import Desk
    from napari_sammed.session import Change

COLOURS = ("#56b4e9", "#f0e442", "#cc79a7", "#009e73", "#d55e00", "#ffffff", "#e69f00", "#88ccee")
"""Of the models' outlines; those of Okabe and Ito that are seen on dark images. Further models have dashed lines."""
_DARK = "#1a1a1a"  # the other dash
_PALE = "66"  # opacity of those that are not selected, in hexadecimal
_WIDTH = 2.5  # pixels of the canvas
_MOMENT = 40  # ms that the user stays on a slice before outlines are drawn on it


class ModelComparison:
    """Asks all models about the current object, and shows what they say. All methods belong to the GUI thread.

    Parameters
    ----------
    desk : Desk

    Attributes
    ----------
    outlines : Outlines
    map : Image or None
        Where the models disagree: the share of them that differ from the majority.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._view = desk.panel.comparison
        self.outlines = Outlines(desk.writer.helpers, "models", _WIDTH)
        self.map: Image | None = None
        self._comparison: Comparison | None = None
        self._measured: Agreement | None = None
        self._filled: Labels | None = None  # the layer of objects, which is filled again afterwards
        self._timer = QTimer(desk.panel)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_MOMENT)
        self._timer.timeout.connect(self._draw)
        self._view.taken.connect(self._take)
        self._view.chosen.connect(self._draw)
        self._view.left.connect(self.leave)
        for event in self._events:
            event.connect(self._draw_soon)

    def start(self, session: Session) -> None:
        """Ask the models that are on this machine.

        Raises
        ------
        InputError
            If there is nothing to ask about.
        """
        if session.current is None:
            raise InputError("There is no object yet to compare models on: mark one with a click or a box first.")
        self.leave()
        self._desk.background.run(session.backend.installed, self._on_installed)

    def on_change(self, change: Change) -> None:
        """The session has changed: answers to what an object was before are of no use."""
        session = self._desk.session
        if self._comparison is not None and session is not None and not session.is_current(self._comparison):
            self.leave()

    def leave(self) -> None:
        """Ask no further, and take everything away that was shown."""
        self._timer.stop()
        if self._comparison is not None and self._desk.session is not None:
            self._desk.session.cancel_comparison()
        self._comparison = self._measured = None
        self.outlines.hide()
        if self._filled is not None:
            self._filled.contour = 0
            self._filled = None
        layer, self.map = self.map, None
        if layer is not None:
            hide_and_take_away(self._desk.viewer, [layer])
        self._view.set_rows((), "")

    def close(self) -> None:
        """The user has turned to another image."""
        self.leave()
        self._view.taken.disconnect(self._take)
        self._view.chosen.disconnect(self._draw)
        self._view.left.disconnect(self.leave)
        for event in self._events:
            event.disconnect(self._draw_soon)

    @property
    def _events(self) -> tuple[Any, ...]:
        """After which outlines look otherwise."""
        viewer = self._desk.viewer
        dims = viewer.dims.events
        return dims.current_step, dims.ndisplay, dims.order, camera_of(viewer).events.zoom

    # ---- asking --------------------------------------------------------------------------------------------------

    def _on_installed(self, found: Future[tuple[str, ...]]) -> None:
        if self._desk.closed:
            return
        if found.exception() is not None:
            self._desk.say(messages.failure(found.exception()) or "")
            return
        self._desk.attempt(lambda session: self._ask(session, found.result()))

    def _ask(self, session: Session, names: tuple[str, ...]) -> None:
        self._desk.intake.use_settings(session)
        comparison = self._comparison = session.compare(names, progress=self._desk.answers.progress)
        whole: Future[None] = Future()
        self._desk.answers.expect(whole, lambda _: self._on_all(comparison))
        self._show_rows()
        self._bare()
        for name, future in comparison.answers.items():
            future.add_done_callback(lambda _, name=name: self._desk.gui.post(self._on_answer, comparison, whole))

    def _on_answer(self, comparison: Comparison, whole: Future[None]) -> None:
        if comparison is self._comparison:
            self._show_rows()
            self._measure()
        if all(future.done() for future in comparison.answers.values()) and not whole.done():
            whole.set_result(None)

    def _on_all(self, comparison: Comparison) -> None:
        if comparison is not self._comparison:
            return
        answers, asked = self._answers(), len(comparison.answers)
        failed = asked - len(answers)
        text = f"Asked {asked} model{'s' * (asked > 1)}" + (f", {failed} without an answer" if failed else "")
        self._desk.say(f"{text}. Select one and take it over, or close the comparison.")

    def _take(self, model: str) -> None:
        def take(session: Session) -> None:
            if self._comparison is None:
                return
            session.adopt(self._comparison, model)
            chooser = self._desk.panel.image_section.model.box
            if chooser.key != AUTO:
                chooser.set_key(model)
            name, title = session.objects[session.current].name, session.backend.card(model).title
            self.leave()
            self._desk.say(f"{name} is what {title} says now, and further clicks go to it. Undo goes back.")

        self._desk.attempt(take)

    # ---- showing -------------------------------------------------------------------------------------------------

    def _answers(self) -> dict[str, Prediction]:
        """Those that are there."""
        futures = {} if self._comparison is None else self._comparison.answers
        there = {name: f for name, f in futures.items() if f.done() and not f.cancelled() and f.exception() is None}
        return {name: future.result() for name, future in there.items()}

    def _measure(self) -> None:
        """Compare the answers beside the interface: volumes take a moment."""
        comparison, answers, session = self._comparison, self._answers(), self._desk.session
        mask, whole = session.objects[comparison.label].mask, session.image.grid.box

        def measured(found: Future[Agreement]) -> None:
            if comparison is self._comparison and len(answers) == len(self._answers()):
                self._measured = found.result()
                self._show_rows()
                self._timer.start()  # not in the same turn as the map: each layer takes a moment
                if all(future.done() for future in comparison.answers.values()):
                    self._show_map()

        self._desk.background.run(lambda: agreement(answers, mask, whole), measured)

    def _show_rows(self) -> None:
        session, comparison = self._desk.session, self._comparison
        state = session.objects[comparison.label]
        rows = []
        for name in comparison.answers:
            figures = self._figures(name)
            note = "" if figures else self._note(name)
            rows.append(AnswerRow(name, session.backend.card(name).title, self._colour(name), figures, note))
        count = len(state.prompts)
        caption = f"{state.name}, {count} prompt{'s' * (count > 1)}{self._place()}. Dice: with its mask as it is."
        self._view.set_rows(rows, caption)

    def _figures(self, name: str) -> tuple[str, ...]:
        answer, measured = self._answers().get(name), self._measured
        if answer is None or measured is None or name not in measured.voxels:
            return ()
        size = messages.size(measured.voxels[name], self._desk.session.image.grid) or "empty"
        seconds = sum(time for step, time in answer.seconds.items() if step != "total")  # which counts waiting, too
        return _number(answer.score), size, _number(measured.dice[name]), f"{seconds:.1f}"

    def _note(self, name: str) -> str:
        """Why there are no figures of a model."""
        futures = self._comparison.answers
        future = futures[name]
        if not future.done():
            first = next(other for other, waits in futures.items() if not waits.done())
            return "is asked …" if name == first else "waits …"
        error = CancelledError() if future.cancelled() else future.exception()
        return "" if error is None else messages.failure(error) or "Stopped."

    def _place(self) -> str:
        part = None if self._measured is None else self._measured.part
        if part is None or part == self._desk.session.image.grid.box:
            return ""
        if part.ndim == 3 and part.thin_axes:
            return f", on slice {part.low[part.thin_axes[0]]}"
        return ", in the part looked at closer"

    def _colour(self, name: str) -> str:
        """Never that of the object itself."""
        own = self._desk.session.objects[self._comparison.label].colour
        colours = [colour for colour in COLOURS if colour != own]
        return colours[list(self._comparison.answers).index(name) % len(colours)]

    def _draw_soon(self, event: Any = None) -> None:
        if self._comparison is not None:
            self._timer.start()

    def _draw(self, event: Any = None) -> None:
        """Draw the outlines on the displayed slice, that of the selected row on top."""
        if self._comparison is None:
            return
        viewer, image = self._desk.viewer, self._desk.image
        answers, selected = self._answers(), self._view.selected
        if viewer.dims.ndisplay == 3:
            self.outlines.clear()
            return
        axis, index = hidden_axis(viewer.dims, image.ndim), current_slice(image, viewer.dims)
        names = list(self._comparison.answers)
        drawn: list[Outline] = []
        for name in sorted(answers, key=lambda name: name == selected):
            pale = _PALE if selected in answers and name != selected else ""
            colours = [self._colour(name) + pale]
            if names.index(name) >= len(COLOURS) - 1:
                colours.append(_DARK + pale)
            paths = around(answers[name].mask, answers[name].box, axis, index)
            drawn += [Outline(path, tuple(colours)) for path in paths]
        self.outlines.show(drawn)

    def _bare(self) -> None:
        """Show objects as outlines too: filled, they would cover what is compared."""
        labels = self._desk.writer.labels
        if labels is not None and labels.contour == 0:
            labels.contour = 1
            self._filled = labels

    def _show_map(self) -> None:
        """Show where the models differ, if they do, right above the image."""
        found = self._measured
        if self.map is not None or found.box is None or len(found.voxels) < 2 or not found.disagreement.any():
            return
        from napari.layers import Image

        layers, image = self._desk.viewer.layers, self._desk.image
        shift = np.eye(image.ndim + 1)
        shift[:-1, -1] = found.box.low
        self.map = Image(
            found.disagreement,
            name=f"{image.name} disagreement",
            metadata={OWN_KEY: True},
            affine=matrix_of(image) @ shift,
            units=image.units,
            axis_labels=image.axis_labels,
            colormap=_colormap(),
            contrast_limits=(0, 0.5),
            opacity=0.5,
            interpolation2d="nearest",
        )
        labels = self._desk.writer.labels
        with keeping_active(self._desk.viewer):
            layers.insert(layers.index(labels) if labels in layers else len(layers), self.map)


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f}"


def _colormap() -> Any:
    """Magma without its ends, which look like images: clear where all agree."""
    from napari.utils import Colormap
    from napari.utils.colormaps import ensure_colormap

    colours = np.array(ensure_colormap("magma").map(np.linspace(0.25, 0.85, 64)))
    colours[0, 3] = 0
    return Colormap(colours, name="disagreement")
