"""One image layer being segmented: what the user does to its layers goes to its session, and what the session says
goes to the layers and the panel."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QTimer

from napari_sammed import messages
from napari_sammed.backend.base import Backend, ClassMap, Prediction
from napari_sammed.backend.slicing import slice_of
from napari_sammed.errors import InputError
from napari_sammed.geometry import Box
from napari_sammed.models import registry
from napari_sammed.models.registry import default_for
from napari_sammed.plugin.ahead import Ahead, EncodeAhead
from napari_sammed.plugin.arranging import arrange
from napari_sammed.plugin.classes import ClassView
from napari_sammed.plugin.closer_look import CloserLook
from napari_sammed.plugin.coordinates import current_slice, hidden_axis
from napari_sammed.plugin.edits import painted
from napari_sammed.plugin.gui_thread import Background, GuiThread
from napari_sammed.plugin.layers import LayerWriter, Mode
from napari_sammed.plugin.object_rows import ObjectRows
from napari_sammed.plugin.opening import close_session, get_ready, open_session
from napari_sammed.plugin.prompt_intake import PromptIntake
from napari_sammed.plugin.views.choosers import AUTO
from napari_sammed.plugin.views.panel import Panel
from napari_sammed.plugin.waiting import Waiting
from napari_sammed.prompts import MaskPrompt, Point, Prompt, Prompts
from napari_sammed.session import Change, Session

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image

_PAINTING = 25  # ms in which the canvas begins to paint what has changed, and then holds up everything else
NOT_IN_3D = "Prompts are given on slices: switch back to the 2D display (the cube button below the layer list) first."


class Segmentation:
    """The session of one image layer and everything that shows it. All methods belong to the GUI thread.

    Parameters
    ----------
    viewer : napari viewer
    image : Image
    panel : Panel
    backend : Backend
    gui : GuiThread
    background : Background
    keys : mapping of str to callable
        Key bindings of the layers.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        image: Image,
        panel: Panel,
        backend: Backend,
        gui: GuiThread,
        background: Background,
        keys: Mapping[str, Callable[[Any], None]],
    ) -> None:
        self.viewer = viewer
        self.image = image
        self.session: Session | None = None
        self.writer = LayerWriter(
            viewer,
            image,
            on_prompts=lambda: gui.post(self.collect_prompts),
            on_paint=lambda: gui.post(self.collect_painting),
            on_mode=lambda mode: panel.modes.show_mode(mode.value),
            keys=keys,
        )
        self._panel = panel
        self._gui = gui
        self._background = background
        self._closed = False
        self._waiting: list[Callable[[Session], None]] = []  # for the session to be open
        self._sizes: dict[int, tuple[MaskPrompt | None, int]] = {}
        self._answers = Waiting(panel.status, gui, lambda: self.session is not None and self.session.busy)
        self._intake = PromptIntake(self.writer, panel, self._expect, self._answers.progress)
        self._closer = CloserLook(self.writer, panel, gui, self._intake, self._ask_closer, self._attempt, keys)
        self._classes = ClassView(viewer, image, panel.classes)
        self._rows = ObjectRows(panel, gui, self._show_current)
        self._ahead = EncodeAhead(viewer, image, self._who_encodes, panel.status)
        self._later = QTimer(panel)
        self._later.setSingleShot(True)
        self._later.setInterval(_PAINTING)
        self._later.timeout.connect(self._catch_up)
        panel.status.say(f"Reading {image.name} …")
        background.run(lambda: open_session(image, backend), self._on_opened)

    def close(self) -> None:
        """Let go of session and layers; the labels stay with the user."""
        self._closed = True
        self._later.stop()
        self._answers.close()
        self._ahead.close()
        self._rows.close()
        self._classes.close()
        self._closer.close()
        self._panel.readings.set_readings((), 0)
        self.writer.close()
        if self.session is not None:
            session = self.session
            session.cancel()
            self._background.run(lambda: close_session(session))

    # ---- what the user wants -------------------------------------------------------------------------------------

    def set_mode(self, mode: Mode) -> None:
        """Choose the tool."""
        if mode is not Mode.NAVIGATE and self.viewer.dims.ndisplay == 3:
            self._panel.status.say(NOT_IN_3D)
            mode = Mode.NAVIGATE
        made = self.writer.labels is None
        self.writer.set_mode(mode)
        if made and self.session is not None and self.session.objects:
            self.writer.show_labels(None, self.session.labels)
            self._later.start()  # for its colours
        self._show_prompts()
        if mode is not Mode.NAVIGATE:
            self._when_open(lambda session: self._get_ready(session, mode))
            self._ahead.start()

    def collect_prompts(self) -> None:
        """Take over what the user did in the prompt layers."""
        self._show_prompts()

    def collect_painting(self) -> None:
        """Take over what the user painted or erased in the label layer."""
        part = None if self._closed or self.session is None else self.writer.painted_part()
        if part is None:
            return
        box, after = part
        found = painted(self.session.objects, box, self.session.labels(box), after)
        if found is None:
            return
        where, masks = found
        if masks:
            self._attempt(lambda session: [session.edit(mask, where, label) for label, mask in masks.items()])
            self._panel.status.say("Took over what you painted.")
        else:
            self._panel.status.say(
                "Paint with the label of one of the objects that are not locked, or start a new object first."
            )
        self.writer.show_labels(where, self.session.labels)
        self._later.start()

    def new_object(self) -> None:
        self._when_open(lambda session: session.new_object())

    def start(self, name: str, prompts: Sequence[Prompt], model: str) -> None:
        """Segment a first object from prompts that nobody drew; nothing if the session has objects already."""

        def first(session: Session) -> None:
            if session.objects:
                return
            session.new_object(name)
            for prompt in prompts:
                self._expect(session.add(prompt, model=model, progress=self._answers.progress))

        self._when_open(first)

    def choose_object(self, label: int) -> None:
        self._when_open(lambda session: session.select(label))
        self._show_current()

    def arrange(self, deed: str, labels: Sequence[int], value: Any) -> None:
        """Do something with objects in the list; see `napari_sammed.plugin.views.objects.ObjectList.wanted`."""
        self._when_open(lambda session: self._panel.status.say(arrange(session, deed, labels, value)))
        self._later.start()  # what was refused is shown as it was

    def clear(self) -> None:
        self._when_open(lambda session: session.clear())

    def undo(self) -> None:
        self._when_open(lambda session: self._step(session.undo, "undo"))

    def redo(self) -> None:
        self._when_open(lambda session: self._step(session.redo, "redo"))

    def propagate(self) -> None:
        """Carry the current object through the stack, with the chosen model if that one looks at slices."""

        def start(session: Session) -> None:
            chosen = self._panel.image_section.model.key
            planar = chosen != AUTO and 2 in session.backend.card(chosen).dimensions
            session.window = self._intake.window(session)
            self._expect(session.propagate(model=chosen if planar else None, progress=self._answers.progress))

        self._when_open(start)

    def look_closer(self) -> None:
        """Segment a part of the current object again, magnified."""
        self._when_open(self._closer.start)

    def retry(self) -> None:
        """Ask for the prompts that have no answer yet."""
        self._when_open(lambda session: [self._expect(future) for future in session.resume(self._answers.progress)])

    def show_reading(self, step: int) -> None:
        """Show the next reading of an ambiguous answer, or with -1 the one before."""

        def show(session: Session) -> None:
            session.next_reading(step)
            state = session.objects[session.current]
            self._panel.status.say(messages.read(state, self._size(state.label), session.image.grid))

        self._when_open(show)

    def segment_everything(self) -> None:
        """Have the chosen model without prompts label the whole image."""

        def start(session: Session) -> None:
            found = session.automatic(self._panel.classes.model.key, progress=self._answers.progress)
            self._answers.expect(found, self._on_classes)

        self._when_open(start)

    def take_class(self, name: str) -> None:
        """Make one of the classes that were found an object."""

        def take(session: Session) -> None:
            if self._classes.found is not None:
                session.take_over(self._classes.found, name)
                self._panel.status.say(f"{name[:1].upper()}{name[1:]} is an object now: correct it with clicks.")

        self._when_open(take)

    def cancel(self) -> None:
        """Stop what is running."""
        self._answers.cancelled()
        self._when_open(lambda session: session.cancel())

    def save(self, path: Path) -> None:
        """Write all objects to a file."""

        def done(future: Future[None]) -> None:
            text = None if future.exception() is None else messages.failure(future.exception())
            self._panel.status.say(text or f"Saved to {path}.")

        self._when_open(lambda session: self._background.run(lambda: session.save(path), done))

    # ---- what the session says -----------------------------------------------------------------------------------

    def _on_opened(self, future: Future[Session]) -> None:
        if self._closed:
            if future.exception() is None:
                session = future.result()
                self._background.run(lambda: close_session(session))
            return
        if future.exception() is not None:
            self._panel.set_usable(False)
            self._panel.status.say(messages.failure(future.exception()) or "")
            return
        session = self.session = future.result()
        session.on_change(lambda change: self._gui.post(self._on_change, change))
        count = len(session.objects)
        self._panel.status.say(
            f"{self.image.name} is ready: choose Point or Box and mark the object."
            if count == 0
            else f"Continued where you left off: {count} object{'s' * (count > 1)}. Delete what you no longer want."
        )
        if count:
            self.writer.show_labels(None, session.labels)
        waiting, self._waiting = self._waiting, []
        for action in waiting:
            self._attempt(action)
        self._show_current()

    def _on_change(self, change: Change) -> None:
        if self._closed or self.session is None:
            return
        if change.box is not None:
            self.writer.show_labels(change.box, self.session.labels)
        self._later.start()

    def _catch_up(self) -> None:
        """Show what can wait until the new mask has been painted."""
        self.writer.finish()
        self._show_current()
        self._answers.watch()

    def _on_answer(
        self, prediction: Prediction, label: int, tell: Callable[..., str] = messages.answered, *known: Any
    ) -> None:
        if self.session is not None:
            state = self.session.objects.get(label)
            text = tell(state, self._size(label), self.session.image.grid, prediction, *known)
            self._panel.status.say(text, " ".join(prediction.reductions))

    def _on_classes(self, found: ClassMap) -> None:
        if self.session is not None:
            self._classes.show(found, self.session)
            text = messages.classified(found, self.session.backend.card(found.model).title)
            self._panel.status.say(text, " ".join(found.notes))

    # ---- inside --------------------------------------------------------------------------------------------------

    def _get_ready(self, session: Session, mode: Mode) -> None:
        """Have the model loaded and the displayed slice encoded before the first prompt, if a network answers."""
        grid = session.image.grid
        model = self._model_for(mode)
        if model not in registry.names() or (grid.ndim == 3 and 3 in session.backend.card(model).dimensions):
            return
        here = current_slice(self.image, self.viewer.dims)
        region = grid.box
        if here is not None:
            axis = hidden_axis(self.viewer.dims, self.image.ndim)
            region = slice_of(grid, axis, min(max(here, 0), grid.shape[axis] - 1))
        window = self._intake.window(session)
        self._background.run(lambda: get_ready(session, model, region, window))

    def _model_for(self, mode: Mode) -> str:
        """The model that will probably be asked next."""
        chosen = self._panel.image_section.model.key or AUTO
        usual: Prompt = self.session.image.grid.box if mode is Mode.BOX else Point((0,) * self.image.ndim)
        return default_for(self.image.ndim, usual) if chosen == AUTO else chosen

    def _who_encodes(self) -> Ahead | None:
        """The model that looks at slices, while the user is prompting with it."""
        session, mode = self.session, self.writer.mode
        if session is None or self._closed or mode is Mode.NAVIGATE:
            return None
        model = self._model_for(mode)
        if 3 in session.backend.card(model).dimensions:
            return None
        return Ahead(session, model, self._intake.window(session))

    def _step(self, step: Callable[[], Any], verb: str) -> None:
        done = step()
        self._panel.status.say(messages.stepped(None if done is None else done.action, verb))
        for answer in () if done is None else done.answers:
            self._expect(answer)

    def _expect(self, future: Future[Prediction]) -> None:
        """Show the answer about the current object when it is there."""
        label = self.session.current
        self._answers.expect(future, lambda prediction: self._on_answer(prediction, label))

    def _ask_closer(self, session: Session, part: Box | None, axis: int | None) -> Future[Prediction]:
        label = session.current
        before = session.objects[label].score
        answer = session.refine(part, axis=axis, progress=self._answers.progress)
        self._answers.expect(answer, lambda found: self._on_answer(found, label, messages.looked_closer, before))
        return answer

    def _when_open(self, action: Callable[[Session], Any]) -> None:
        """Do it now, or when the session has been opened."""
        if self.session is None:
            self._waiting.append(action)
        else:
            self._attempt(action)

    def _attempt(self, action: Callable[[Session], Any]) -> None:
        """Do something that may be refused; the refusal is shown."""
        try:
            action(self.session)
        except InputError as error:
            self._panel.status.say(messages.failure(error) or "")

    def _prompts(self) -> Prompts:
        state = None if self.session is None else self.session.objects.get(self.session.current)
        return Prompts() if state is None else state.prompts

    def _show_prompts(self) -> None:
        """Make the prompt layers show what the session says; what the user did in them meanwhile is taken over first.

        Whatever was drawn before the session was open waits in the layers until it is.
        """
        if self.session is None or self._closed:
            return
        if self.viewer.dims.ndisplay == 2:
            self._attempt(self._intake.take)
        elif any(self.writer.changes()):
            self._panel.status.say(NOT_IN_3D)
        self.writer.show_prompts(self._prompts())

    def _show_current(self) -> None:
        session = self.session
        if session is None or self._closed:
            return
        rows = self._rows.rows(session)
        self._panel.objects.set_objects(rows, session.current, session.overlap)
        self.writer.set_colours({row.label: row.colour if row.visible else "transparent" for row in rows})
        state = session.objects.get(session.current)
        self._panel.readings.set_readings(
            () if state is None else state.readings, 0 if state is None else state.reading
        )
        self._classes.refresh(session)
        if session.current is not None:
            self.writer.select_label(session.current)
        self._show_prompts()

    def _size(self, label: int) -> int:
        """Voxels of an object; counted once for each mask."""
        state = self.session.objects.get(label)
        mask = None if state is None else state.mask
        known = self._sizes.get(label)
        if known is None or known[0] is not mask:
            known = self._sizes[label] = (mask, 0 if mask is None else int(np.count_nonzero(mask.mask)))
        return known[1]
