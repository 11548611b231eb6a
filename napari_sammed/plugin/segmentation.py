"""One image layer being segmented: what the user does to its layers goes to its session, and what the session says
goes to the layers and the panel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer

from napari_sammed import messages
from napari_sammed.backend.base import Backend
from napari_sammed.plugin.ahead import EncodeAhead
from napari_sammed.plugin.arranging import arrange
from napari_sammed.plugin.classes import ClassView
from napari_sammed.plugin.closer_look import CloserLook
from napari_sammed.plugin.desk import Desk
from napari_sammed.plugin.edits import painted
from napari_sammed.plugin.gui_thread import Background, GuiThread
from napari_sammed.plugin.keys import Keyboard
from napari_sammed.plugin.layers import LayerWriter, Mode
from napari_sammed.plugin.object_rows import ObjectRows
from napari_sammed.plugin.opening import close_session, open_session
from napari_sammed.plugin.preferences import Preferences
from napari_sammed.plugin.views.choosers import AUTO
from napari_sammed.plugin.views.panel import Panel
from napari_sammed.prompts import Prompt, Prompts
from napari_sammed.session import Change, Session

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image

    from napari_sammed.plugin.image_view import ImageView

_PAINTING = 25  # ms in which the canvas begins to paint what has changed, and then holds up everything else
NOT_IN_3D = "Prompts are given on slices: switch back to the 2D display (the cube button below the layer list) first."


class Segmentation:
    """The session of one image and everything that shows it. All methods belong to the GUI thread.

    Parameters
    ----------
    viewer : napari viewer
    view : ImageView
        The image.
    panel : Panel
    backend : Backend
    gui : GuiThread
    background : Background
    keys : Keyboard
        Binds keys on the layers.
    preferences : Preferences
    """

    def __init__(
        self,
        viewer: ViewerModel,
        view: ImageView,
        panel: Panel,
        backend: Backend,
        gui: GuiThread,
        background: Background,
        keys: Keyboard,
        preferences: Preferences,
    ) -> None:
        self.viewer = viewer
        self.view = view
        self._panel = panel
        self._desk = desk = Desk(
            viewer,
            view,
            panel,
            gui,
            background,
            keys,
            preferences,
            on_prompts=self.collect_prompts,
            on_paint=self.collect_painting,
        )
        self._closer = CloserLook(desk)
        self._classes = ClassView(desk)
        self._rows = ObjectRows(panel, gui, self._show_current)
        self._ahead = EncodeAhead(desk)
        self._later = QTimer(panel)
        self._later.setSingleShot(True)
        self._later.setInterval(_PAINTING)
        self._later.timeout.connect(self._catch_up)
        desk.say(f"Reading {view.title} …")
        background.run(lambda: open_session(view, backend), self._on_opened)

    @property
    def image(self) -> Image:
        """The layer that the image is of."""
        return self.view.layer

    @property
    def session(self) -> Session | None:
        """None until it has been opened."""
        return self._desk.session

    @property
    def writer(self) -> LayerWriter:
        """The layers."""
        return self._desk.writer

    def close(self) -> None:
        """Let go of session and layers; the labels stay with the user."""
        self._later.stop()
        self._ahead.close()
        self._rows.close()
        self._classes.close()
        self._closer.close()
        self._desk.close()
        self._panel.readings.set_readings((), 0)
        if self.session is not None:
            session = self.session
            session.cancel()
            self._desk.background.run(lambda: close_session(session))

    # ---- what the user wants -------------------------------------------------------------------------------------

    def set_mode(self, mode: Mode) -> None:
        """Choose the tool."""
        if mode is not Mode.NAVIGATE and self.viewer.dims.ndisplay == 3:
            self._desk.say(NOT_IN_3D)
            mode = Mode.NAVIGATE
        made = self.writer.labels is None
        self.writer.set_mode(mode)
        if made and self.session is not None and self.session.objects:
            self.writer.show_labels(None, self.session.labels)
            self._later.start()  # for its colours
        self._show_prompts()
        if mode is not Mode.NAVIGATE:
            self._desk.when_open(lambda session: self._ahead.get_ready(session, mode))
            self._ahead.start()

    def collect_prompts(self) -> None:
        """Take over what the user did in the prompt layers."""
        self._show_prompts()

    def collect_painting(self) -> None:
        """Take over what the user painted or erased in the label layer."""
        part = None if self._desk.closed or self.session is None else self.writer.painted_part()
        if part is None:
            return
        box, after = part
        found = painted(self.session.objects, box, self.session.labels(box), after)
        if found is None:
            return
        where, masks = found
        if masks:
            self._desk.attempt(lambda session: [session.edit(mask, where, label) for label, mask in masks.items()])
            self._desk.say("Took over what you painted.")
        else:
            self._desk.say(
                "Paint with the label of one of the objects that are not locked, or start a new object first."
            )
        self.writer.show_labels(where, self.session.labels)
        self._later.start()

    def new_object(self) -> None:
        self._desk.when_open(lambda session: session.new_object())

    def start(self, name: str, prompts: Sequence[Prompt], model: str) -> None:
        """Segment a first object from prompts that nobody drew; nothing if the session has objects already."""

        def first(session: Session) -> None:
            if session.objects:
                return
            session.new_object(name)
            for prompt in prompts:
                self._desk.expect(session.add(prompt, model=model, progress=self._desk.answers.progress))

        self._desk.when_open(first)

    def choose_object(self, label: int) -> None:
        self._desk.when_open(lambda session: session.select(label))
        self._show_current()

    def arrange(self, deed: str, labels: Sequence[int], value: Any) -> None:
        """Do something with objects in the list; see `napari_sammed.plugin.views.objects.ObjectList.wanted`."""
        self._desk.when_open(lambda session: self._desk.say(arrange(session, deed, labels, value)))
        self._later.start()  # what was refused is shown as it was

    def clear(self) -> None:
        self._desk.when_open(lambda session: session.clear())

    def undo(self) -> None:
        self._desk.when_open(lambda session: self._step(session.undo, "undo"))

    def redo(self) -> None:
        self._desk.when_open(lambda session: self._step(session.redo, "redo"))

    def propagate(self) -> None:
        """Carry the current object through the stack, with the chosen model if that one looks at slices."""

        def start(session: Session) -> None:
            chosen = self._panel.image_section.model.key
            planar = chosen != AUTO and 2 in session.backend.card(chosen).dimensions
            session.window = self._desk.intake.window(session)
            self._desk.expect(session.propagate(model=chosen if planar else None, progress=self._desk.answers.progress))

        self._desk.when_open(start)

    def look_closer(self) -> None:
        """Segment a part of the current object again, magnified."""
        self._desk.when_open(self._closer.start)

    def retry(self) -> None:
        """Ask for the prompts that have no answer yet."""
        self._desk.when_open(
            lambda session: [self._desk.expect(future) for future in session.resume(self._desk.answers.progress)]
        )

    def show_reading(self, step: int) -> None:
        """Show the next reading of an ambiguous answer, or with -1 the one before."""

        def show(session: Session) -> None:
            session.next_reading(step)
            state = session.objects[session.current]
            self._desk.say(messages.read(state, self._desk.size(state.label), session.image.grid))

        self._desk.when_open(show)

    def segment_everything(self) -> None:
        """Have the chosen model without prompts label the whole image."""
        self._desk.when_open(self._classes.ask)

    def take_class(self, name: str) -> None:
        """Make one of the classes that were found an object."""
        self._desk.when_open(lambda session: self._classes.take(session, name))

    def cancel(self) -> None:
        """Stop what is running."""
        self._desk.answers.cancelled()
        self._desk.when_open(lambda session: session.cancel())

    def save(self, path: Path) -> None:
        """Write all objects to a file."""

        def done(future: Future[None]) -> None:
            text = None if future.exception() is None else messages.failure(future.exception())
            self._desk.say(text or f"Saved to {path}.")

        self._desk.when_open(lambda session: self._desk.background.run(lambda: session.save(path), done))

    # ---- what the session says -----------------------------------------------------------------------------------

    def _on_opened(self, future: Future[Session]) -> None:
        if self._desk.closed:
            if future.exception() is None:
                session = future.result()
                self._desk.background.run(lambda: close_session(session))
            return
        if future.exception() is not None:
            self._panel.set_usable(False)
            self._desk.say(messages.failure(future.exception()) or "")
            return
        session = future.result()
        session.on_change(lambda change: self._desk.gui.post(self._on_change, change))
        count = len(session.objects)
        self._desk.say(
            f"{self.view.title} is ready: choose Point or Box and mark the object."
            if count == 0
            else f"Continued where you left off: {count} object{'s' * (count > 1)}. Delete what you no longer want."
        )
        if count:
            self.writer.show_labels(None, session.labels)
        self._desk.open(session)
        self._show_current()

    def _on_change(self, change: Change) -> None:
        if self._desk.closed or self.session is None:
            return
        if change.box is not None:
            self.writer.show_labels(change.box, self.session.labels)
        self._later.start()

    def _catch_up(self) -> None:
        """Show what can wait until the new mask has been painted."""
        self.writer.finish()
        self._show_current()
        self._desk.answers.watch()

    # ---- inside --------------------------------------------------------------------------------------------------

    def _step(self, step: Callable[[], Any], verb: str) -> None:
        done = step()
        self._desk.say(messages.stepped(None if done is None else done.action, verb))
        for answer in () if done is None else done.answers:
            self._desk.expect(answer)

    def _prompts(self) -> Prompts:
        state = None if self.session is None else self.session.objects.get(self.session.current)
        return Prompts() if state is None else state.prompts

    def _show_prompts(self) -> None:
        """Make the prompt layers show what the session says; what the user did in them meanwhile is taken over first.

        Whatever was drawn before the session was open waits in the layers until it is.
        """
        if self.session is None or self._desk.closed:
            return
        if self.viewer.dims.ndisplay == 2:
            self._desk.attempt(self._desk.intake.take)
        elif any(self.writer.changes()):
            self._desk.say(NOT_IN_3D)
        self.writer.show_prompts(self._prompts())

    def _show_current(self) -> None:
        session = self.session
        if session is None or self._desk.closed:
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
