"""What the dock does: looks at data, starts runs and follows them, and hands the new model to the panel."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QTimer, QUrl
from qtpy.QtGui import QDesktopServices

from napari_sammed import messages
from napari_sammed.errors import InputError
from napari_sammed.plugin.gui_thread import Background, GuiThread
from napari_sammed.plugin.learning import offers
from napari_sammed.plugin.learning.curves import draw
from napari_sammed.plugin.learning.runs import PROGRAM, LearningRun, earlier, runs_folder
from napari_sammed.plugin.learning.taking_in import take_in
from napari_sammed.plugin.learning.wish import Wish
from napari_sammed.plugin.sessions import journals
from napari_sammed.plugin.views.learning import LearnView
from napari_sammed.training.looking import Look, look

if TYPE_CHECKING:
    from napari_sammed.plugin.coordinator import Coordinator

_TICK = 200  # ms between looks at a run


class LearnWork:
    """The work behind one dock. Belongs to the GUI thread.

    Parameters
    ----------
    view : LearnView
    coordinator : callable
        Gives the one of the panel that segments, which is made if there is none.
    program : sequence of str
        What is run; see `napari_sammed.plugin.learning.runs.PROGRAM`.
    """

    def __init__(
        self, view: LearnView, coordinator: Callable[[], Coordinator], program: tuple[str, ...] = PROGRAM
    ) -> None:
        self.view = view
        self.run: LearningRun | None = None
        self._coordinator = coordinator
        self._program = program
        self._closed = False
        self._looking: threading.Event | None = None
        self._own_name = False  # the user has named the model
        self._alive = False
        self._starting = False
        self._goes_on = True  # kept here, since the widgets may be gone when it matters
        self._drawn = -1  # measures in the picture
        self._drawing = self._draw_again = False
        self._gui = GuiThread()
        self._background = Background(self._gui, "napari-sammed-learning")
        self._painter = Background(self._gui, "napari-sammed-curves")
        self._clock = QTimer(view)
        self._clock.setInterval(_TICK)
        self._clock.timeout.connect(self._tick)
        self._connect()
        self._begin()

    def close(self, wait: bool = False) -> None:
        """Let go; the run goes on, unless the user wants it to end with napari."""
        if self._closed:
            return
        self._closed = True
        self._clock.stop()
        if self._looking is not None:
            self._looking.set()
        if self.run is not None and self._alive and not self._goes_on:
            self.run.stop()
        self._gui.close()
        for background in (self._background, self._painter):
            background.close(wait)

    # ---- before a run --------------------------------------------------------------------------------------------

    def look(self, folder: Path | None) -> None:
        """Count what there is to learn from; None for the sessions of the plugin."""
        if self._looking is not None:
            self._looking.set()
        cancel = self._looking = threading.Event()
        self.view.data.found.setText("Looking …")
        where = journals.folder() if folder is None else folder

        def then(future: Future[Look]) -> None:
            if self._looking is cancel:
                self._show_look(future, of_sessions=folder is None)

        self._background.run(lambda: look(where, cancel=cancel), then)

    def wish(self) -> Wish:
        """What the dock asks for.

        Raises
        ------
        InputError
            If anything is missing.
        """
        data, how, more = self.view.data, self.view.how, self.view.more
        if data.source.key == "folder" and data.path is None:
            raise InputError("Choose a folder to learn from first.")
        if data.structures.count() and not data.names:
            raise InputError("Choose at least one structure to learn.")
        name, out = how.name.text().strip(), how.out.text().strip()
        if not name or not out:
            raise InputError("Give the new model a name, and the run a folder.")
        return Wish(
            data=str(data.path or journals.folder()),
            out=str(Path(out).expanduser()),
            recipe=how.recipe.key,
            base=how.base.key,
            name=name,
            structures=() if data.all_chosen else data.names,
            steps=more.steps.value(),
            rate=more.rate.value(),
            held_out=more.held_out.value() / 100,
            seed=more.seed.value(),
            device=more.device.key,
            patients=more.patients.text().strip(),
        )

    # ---- a run ---------------------------------------------------------------------------------------------------

    def start(self, *, check_only: bool = False) -> None:
        """Begin what the dock asks for, or go on with the run that is shown."""
        if self._starting or self._alive:
            return
        try:
            wish = self.wish() if self.run is None else self.run.wish()
        except InputError as error:
            self.view.say(messages.failure(error) or "")
            return
        run = self.run or LearningRun(Path(wish.out), self._program)
        self._starting = True
        self.view.say("Starting …")

        def then(future: Future[None]) -> None:
            self._starting = False
            if future.exception() is not None:
                self.view.say(messages.failure(future.exception()) or "")
                return
            self.view.say("")
            self._follow(run)

        self._background.run(lambda: run.start(wish, check_only=check_only), then)

    def stop(self) -> None:
        """Have the run keep its state and end."""
        if self.run is not None and self._alive:
            self.run.stop()
            self.view.stop_button.setText("Stop at once")
            self.view.stop_button.setToolTip("Do not wait for what is being computed; what was kept last stays")

    def show(self, folder: str) -> None:
        """Show a run that was begun earlier; empty for a new one."""
        self.view.say("")
        if folder:
            self._follow(LearningRun(Path(folder), self._program))
            return
        self._clock.stop()
        self.run, self._alive = None, False
        self.view.run.clear()
        self.view.run.set_runs(earlier(runs_folder()), None)
        self.view.set_working(False)
        self.view.set_run(False)
        self._name_it()

    def use(self) -> None:
        """Take the new model in, and choose it in the panel."""
        done = None if self.run is None else self.run.log.done
        if done is None:
            return
        self.view.run.use_button.setEnabled(False)
        self.view.say("Taking the model in …")

        def then(future: Future[str]) -> None:
            self.view.run.use_button.setEnabled(True)
            if future.exception() is not None:
                self.view.say(messages.failure(future.exception()) or "")
                return
            self.view.say(self._coordinator().use_model(future.result()))

        self._background.run(lambda: take_in(Path(str(done.get("model", "")))), then)

    # ---- inside --------------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        view = self.view
        view.run.goes_on.toggled.connect(lambda on: setattr(self, "_goes_on", on))
        view.data.looked.connect(self.look)
        view.data.chosen.connect(self._name_it)
        view.how.recipe_chosen.connect(self._show_bases)
        view.how.name.textEdited.connect(self._on_name)
        view.started.connect(self.start)
        view.checked.connect(partial(self.start, check_only=True))
        view.stopped.connect(self.stop)
        view.run.chosen.connect(self.show)
        view.run.use_wanted.connect(self.use)
        view.run.report_wanted.connect(self._open_report)
        view.run.curves.wanted.connect(self._draw)

    def _begin(self) -> None:
        """Offer what there is, and follow the run that is at work, if one is."""
        view, absent = self.view, offers.missing()
        view.how.set_recipes(*offers.recipe_choices())
        self._show_bases(view.how.recipe.key)
        self.show("")
        view.say(absent)
        for button in (view.start_button, view.check_button):
            button.setEnabled(not absent)
        view.data.look()

        def running() -> Path | None:
            return next((path for path in earlier(runs_folder()) if LearningRun(path).alive), None)

        def then(future: Future[Path | None]) -> None:
            if future.exception() is None and future.result() is not None and self.run is None:
                self._follow(LearningRun(future.result(), self._program))

        if not absent:
            self._background.run(running, then)

    def _show_bases(self, recipe: str) -> None:
        try:
            self.view.how.set_bases(*offers.base_choices(recipe))
        except InputError as error:
            self.view.say(messages.failure(error) or "")

    def _show_look(self, future: Future[Look], *, of_sessions: bool) -> None:
        data, error = self.view.data, future.exception()
        if error is None:
            found = future.result()
            data.found.setText(" ".join((offers.found(found), *found.remarks)))
            data.set_structures(offers.structures(found))
            data.problems.set_problems([(str(one.file), one.message, one.fatal) for one in found.problems])
            return
        data.set_structures([])
        data.problems.set_problems([])
        if of_sessions and isinstance(error, InputError):
            data.found.setText("Nothing has been segmented in napari yet. Segment or correct some images first.")
        else:
            data.found.setText(messages.failure(error) or "")

    def _on_name(self, text: str) -> None:
        self._own_name = bool(text.strip())
        self._place_it()

    def _name_it(self) -> None:
        """A name and a folder, as long as the user has not said other ones."""
        if not self._own_name:
            self.view.how.name.setText(offers.free_name(self.view.data.names, runs_folder()))
            self._place_it()

    def _place_it(self) -> None:
        self.view.how.out.setText(str(runs_folder() / self.view.how.name.text().strip()))

    def _follow(self, run: LearningRun) -> None:
        self.run, self._alive = run, True
        self._own_name = False
        view = self.view.run
        view.clear()
        known = earlier(runs_folder())
        view.set_runs(known if run.out in known else [run.out, *known], run.out)
        try:
            view.about.setText(offers.about(run.wish()))
            view.about.show()
        except InputError as error:
            self.view.say(messages.failure(error) or "")
        self.view.set_working(True)
        self.view.set_run(True)
        self._drawn = -1
        self._clock.start()
        self._tick()

    def _tick(self) -> None:
        """Look at the run."""
        run, view = self.run, self.view.run
        alive = run.alive  # before what it says is read: nothing comes after its end
        if run.log.read():
            return  # an earlier napari's run, of which there is more to read
        view.problems.set_problems([(one.file, one.text, one.fatal) for one in run.log.troubles])
        if len(run.log.curve) != self._drawn:
            self._drawn = len(run.log.curve)
            self._draw()
        if alive:
            view.set_progress(run.log.share)
            text = run.log.text or "starting"
            said = "Stopping: what was learnt is kept" if run.stopping else f"{text[:1].upper()}{text[1:]}"
            view.say(f"{said}.{offers.time_left(run.log.seconds_left)}")
            return
        self._clock.stop()
        self._alive = False
        self._ended(run)

    def _ended(self, run: LearningRun) -> None:
        view, done = self.view.run, run.log.done
        view.set_progress(None)
        self.view.set_working(False)
        self.view.set_run(True, done=done is not None)
        if done is not None:
            before, after = dict(done.get("before") or {}), dict(done.get("after") or {})
            view.set_figures(before, after)
            view.use_button.show()
            view.report_button.setVisible(bool(done.get("report")))
            view.say(offers.gain(before, after))
            return
        complaint = run.complaint()
        if complaint:
            view.say(complaint)
        elif run.log.data and not run.log.curve:
            view.say(offers.checked(run.log.data, len(run.log.troubles)))
        else:
            view.say("Stopped. What was learnt is kept: “Go on” begins where it was stopped.")
        view.problems.set_open(bool(run.log.troubles))

    def _open_report(self) -> None:
        if self.run is not None and self.run.log.done:
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(self.run.log.done.get("report"))))

    def _draw(self) -> None:
        """Have the curves drawn beside the GUI thread, one picture at a time."""
        if self._closed or self.run is None or not self.run.log.curve:
            return
        if self._drawing:
            self._draw_again = True
            return
        self._drawing, run, picture = True, self.run, self.view.run.curves
        rows, colour, ratio = run.log.rows(), picture.colour, picture.devicePixelRatioF()
        width = picture.width() if picture.isVisible() else picture.sizeHint().width()
        size = max(width, 200), picture.sizeHint().height()

        def then(future: Future[np.ndarray]) -> None:
            self._drawing = False
            if future.exception() is None and self.run is run:
                picture.set_picture(future.result())
            if self._draw_again:
                self._draw_again = False
                self._draw()

        self._painter.run(lambda: draw(rows, size, colour, ratio, run.log.steps), then)
