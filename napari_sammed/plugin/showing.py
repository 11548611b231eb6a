"""One image being segmented: opened, shown in layers and panel as its session says, and left for another one.

What the user does to the layers goes to the session, and what the session says goes to the layers and the panel.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING

from qtpy.QtCore import QTimer

from napari_sammed import messages
from napari_sammed.backend.masks import span_of
from napari_sammed.geometry import Box
from napari_sammed.plugin.desk import Desk
from napari_sammed.plugin.features.ahead import EncodeAhead
from napari_sammed.plugin.features.brush import Brush
from napari_sammed.plugin.features.classes import ClassView
from napari_sammed.plugin.features.closer_look import CloserLook
from napari_sammed.plugin.features.cockpit import Cockpit
from napari_sammed.plugin.features.comparison import ModelComparison
from napari_sammed.plugin.features.first_hint import FirstHint
from napari_sammed.plugin.features.object_rows import ObjectRows
from napari_sammed.plugin.features.overlap_question import OverlapQuestion
from napari_sammed.plugin.features.preview import Preview
from napari_sammed.plugin.features.saving import Saving
from napari_sammed.plugin.gui_thread import Background, GuiThread
from napari_sammed.plugin.image.coordinates import obstacle
from napari_sammed.plugin.layers.edits import painted
from napari_sammed.plugin.layers.layer_writer import LayerWriter, Mode
from napari_sammed.plugin.sessions.open_sessions import Sessions
from napari_sammed.plugin.sessions.opening import Opened, Opener, open_session
from napari_sammed.plugin.settings.keys import Keyboard
from napari_sammed.plugin.settings.preferences import Preferences
from napari_sammed.plugin.views.panel import Panel
from napari_sammed.prompts import Prompts
from napari_sammed.session import Change, Session

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image

    from napari_sammed.plugin.image.image_view import ImageView

_PAINTING = 25  # ms in which the canvas begins to paint what has changed, and then holds up everything else


class Showing:
    """The session of one image and everything that shows it; see `napari_sammed.plugin.segmentation.Segmentation`.

    Parameters
    ----------
    viewer : napari viewer
    view : ImageView
        The image.
    panel : Panel
    sessions : Sessions
    gui : GuiThread
    background : Background
    keys : Keyboard
        Binds keys on the layers.
    preferences : Preferences
    turn : callable
        Called when the user does something in the layers while the viewer shows another frame: `hand_over` now.
    on_opened : callable
        Told what was found when the session was opened, or why it could not be.
    writer : LayerWriter, optional
        Handed over by another frame of the same layer, or let go by another image.
    opener : callable
        Makes the session, beside the GUI thread.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        view: ImageView,
        panel: Panel,
        sessions: Sessions,
        gui: GuiThread,
        background: Background,
        keys: Keyboard,
        preferences: Preferences,
        *,
        turn: Callable[[], None],
        on_opened: Callable[[Opened | BaseException], None] = lambda outcome: None,
        writer: LayerWriter | None = None,
        opener: Opener = open_session,
    ) -> None:
        self.viewer = viewer
        self.view = view
        self._panel = panel
        self._sessions = sessions
        self._turn = turn
        self._away = False  # the viewer shows another frame
        self._refused = ""  # why there is no session
        self._stop_listening: Callable[[], None] = lambda: None
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
            writer=writer,
        )
        self._closer = CloserLook(desk)
        self.cockpit = Cockpit(desk)
        self.comparison = ModelComparison(desk)
        self._classes = ClassView(desk)
        self._overlaps = OverlapQuestion(desk)
        self._hint = FirstHint(desk)
        self._brush = Brush(desk)
        self._rows = ObjectRows(panel, gui, self._show_current)
        self._ahead = EncodeAhead(desk)
        self._preview = Preview(desk)
        self._saving = Saving(desk)
        self._later = QTimer(panel)
        self._later.setSingleShot(True)
        self._later.setInterval(_PAINTING)
        self._later.timeout.connect(self._catch_up)
        desk.say(f"Reading {view.title} …")
        self._tell_opened = on_opened
        sessions.open(view, self._on_opened, opener)

    @property
    def image(self) -> Image:
        """The layer that the image is of."""
        return self.view.layer

    @property
    def session(self) -> Session | None:
        """None until it has been opened."""
        return self._desk.session

    @property
    def refused(self) -> str:
        """Why there is no session, and will be none; empty otherwise."""
        return self._refused

    @property
    def away(self) -> bool:
        """Whether the viewer shows another frame."""
        return self._away

    @property
    def writer(self) -> LayerWriter:
        """The layers."""
        return self._desk.writer

    def let_go(self) -> LayerWriter:
        """Close; the prompt layers are left for another image, or to be closed, the labels stay with the user."""
        self._end()
        if self.session is not None:
            self._sessions.close(self.session)
        self.writer.let_go()
        return self.writer

    # ---- frames of a series --------------------------------------------------------------------------------------

    def leave(self) -> None:
        """The viewer shows another frame: take over what was drawn on this one, and show nothing of it any more."""
        if self._away:
            return
        self._show_prompts()
        drawn = self.writer.changes(self._panel.slices.span)[0] if self.session is None and not self._refused else []
        if drawn:
            self._desk.when_open(lambda session: self._desk.intake.give(session, drawn))
        self._away = True
        self._later.stop()
        self.cockpit.leave()
        self._preview.leave()
        self._desk.gui.post(self.comparison.leave)  # outside of napari's own callbacks
        self.writer.blank(self._extent)

    def come_back(self) -> None:
        """The viewer shows this frame again."""
        self._away = False
        self._preview.come_back()
        if self.session is not None:
            self._show_all()

    def hand_over(self, *, keep_session: bool = True) -> LayerWriter:
        """Close, but leave layers and tool to another frame, or to another session of this one.

        What was asked is still answered if the session is kept.
        """
        self.leave()
        self._end()
        if self.session is not None:
            (self._sessions.keep if keep_session else self._sessions.close)(self.session)
        return self.writer

    @property
    def _extent(self) -> Box | None:
        """The box around all objects."""
        return None if self.session is None else span_of(state.mask for state in self.session.objects.values())

    def _end(self) -> None:
        self._later.stop()
        self._stop_listening()
        self._preview.close()
        self.comparison.close()
        self._ahead.close()
        self._rows.close()
        self._classes.close()
        self._brush.close()
        self._closer.close()
        self._overlaps.close()
        self._hint.close()
        self.cockpit.close()
        self._desk.close()
        self._panel.readings.set_readings((), 0)

    # ---- what the user does to the layers ------------------------------------------------------------------------

    def collect_prompts(self) -> None:
        """Take over what the user did in the prompt layers."""
        if self._away and not self._desk.closed:
            self._turn()  # it is the other frame's
        self._show_prompts()

    def collect_painting(self) -> None:
        """Take over what the user painted or erased in the label layer."""
        part = None if self._desk.closed or self._away or self.session is None else self.writer.painted_part()
        if part is None:
            return
        box, after = part
        found = painted(self.session.claimed, box, self.session.labels(box), after)
        if found is None:
            return
        where, masks = found
        if masks:
            self._desk.attempt(
                lambda session: [session.edit(mask, where, label, held=True) for label, mask in masks.items()]
            )
            self._desk.say("Took over what you painted.")
        else:
            self._desk.say(
                "Paint with the label of one of the objects that are not locked, or start a new object first."
            )
        self.writer.show_labels(where, self.session.labels)
        self._later.start()

    def retry(self) -> None:
        """Ask for the prompts that have no answer yet."""
        self._desk.when_open(
            lambda session: [self._desk.expect(future) for future in session.resume(self._desk.answers.progress)]
        )

    # ---- what the session says -----------------------------------------------------------------------------------

    def _on_opened(self, future: Future[Opened]) -> None:
        if self._desk.closed:
            if future.exception() is None:
                session = future.result().session
                self._desk.open(session)  # what was drawn before it was there
                (self._sessions.keep if self._away else self._sessions.close)(session)
            return
        if future.exception() is not None:
            self._panel.set_usable(False)
            self._refused = messages.failure(future.exception()) or ""
            self._show_prompts()
            self._desk.say(self._refused)
            self._tell_opened(future.exception())
            return
        session = future.result().session
        self._stop_listening = session.on_change(
            lambda change: self._desk.gui.post(self._on_change, change), growing=True
        )
        count = len(session.objects)
        self._desk.say(
            f"{self.view.title} is ready: choose Point or Box and mark the object."
            if count == 0
            else f"Continued where you left off: {count} object{'s' * (count > 1)}. Delete what you no longer want.",
            "" if session.image.in_memory else messages.LARGE,
        )
        self._desk.open(session)
        if self._away:
            return
        self._show_all()
        self._tell_opened(future.result())
        if self.view.at:
            self.retry()
            if self.writer.mode is not Mode.NAVIGATE:
                self._ahead.get_ready(session, self.writer.mode)

    def _on_change(self, change: Change) -> None:
        if self._desk.closed or self._away or self.session is None:
            return
        if change.box is not None:
            self.writer.show_labels(change.box, self.session.labels)
        self._preview.on_change(change)
        self.comparison.on_change(change)
        self._later.start()

    def _catch_up(self) -> None:
        """Show what can wait until the new mask has been painted."""
        self.writer.finish()
        if self.writer.labels_due:
            self.writer.make_labels()
            if self.session is not None and self.session.objects:
                self.writer.show_labels(None, self.session.labels)
        self._show_current()
        self._desk.answers.watch()

    # ---- inside --------------------------------------------------------------------------------------------------

    def _prompts(self) -> Prompts:
        state = None if self.session is None else self.session.objects.get(self.session.current)
        return Prompts() if state is None else state.prompts

    def _show_prompts(self) -> None:
        """Make the prompt layers show what the session says; what the user did in them meanwhile is taken over first.

        Whatever was drawn before the session was open waits in the layers until it is.
        """
        if self._desk.closed or self._away:
            return
        if self._refused and any(self.writer.changes()):
            self._desk.say(self._refused)
            self.writer.show_prompts(Prompts())
        if self.session is None:
            return
        why_not = obstacle(self.viewer.dims, self.view.ndim)
        if not why_not:
            self._desk.attempt(self._desk.intake.take)
        elif any(self.writer.changes()):
            self._desk.say(why_not)
        if not self.writer.show_prompts(self._prompts()):
            self._later.start()

    def _show_all(self) -> None:
        """Show everything there is."""
        if self.session.objects:
            self.writer.show_labels(self._extent, self.session.labels)
        self._show_current()
        self._later.start()

    def _show_current(self) -> None:
        session = self.session
        if session is None or self._desk.closed or self._away:
            return
        rows = self._rows.rows(session)
        self._panel.objects.set_objects(rows, session.current, session.overlap)
        self.writer.set_colours({row.label: row.colour if row.visible else "transparent" for row in rows})
        state = session.objects.get(session.current)
        self._panel.readings.set_readings(
            () if state is None else state.readings, 0 if state is None else state.reading
        )
        self._classes.refresh(session)
        self._saving.refresh(session)
        self._overlaps.refresh(session)
        self._hint.refresh(session)
        self.cockpit.refresh()
        if session.current is not None:
            self.writer.select_label(session.current)
        self._show_prompts()
