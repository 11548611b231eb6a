"""Leads through a series: opens one image after the other, keeps the time, saves what was done."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import QTimer
from qtpy.QtGui import QCursor

from napari_sammed import messages
from napari_sammed.errors import InputError
from napari_sammed.plugin.files.reader import image_layer
from napari_sammed.plugin.gui_thread import Background, GuiThread
from napari_sammed.plugin.image.images import JOURNAL_KEY, READ_KEY
from napari_sammed.plugin.layers.taking_away import take_away
from napari_sammed.plugin.views.series import SeriesView
from napari_sammed.series.classes import parse_classes, read_classes
from napari_sammed.series.results import make_objects, new_of_class, write_result
from napari_sammed.series.state import Entry, Series
from napari_sammed.volume import Volume, read_volume

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Layer

    from napari_sammed.plugin.coordinator import Coordinator
    from napari_sammed.session import Session

_TICK = 1000  # ms
_SOON = 50  # ms
IDLE = 60.0
"""Seconds without a movement after which the time of an image pauses."""


class SeriesWork:
    """One series in one viewer. Belongs to the GUI thread.

    Parameters
    ----------
    viewer : napari viewer
    view : SeriesView
    coordinator : callable
        Gives the one of the segmentation panel, which is made if there is none or if the user has closed it.
    """

    def __init__(self, viewer: ViewerModel, view: SeriesView, coordinator: Callable[[], Coordinator]) -> None:
        self.viewer = viewer
        self.series: Series | None = None
        self.current: Entry | None = None
        self.layer: Image | None = None
        self._closed = False
        self._note = ""  # what was wrong with the image before
        self._view = view
        self._open_coordinator = coordinator
        self._coordinator: Coordinator | None = None  # of the image that is open
        self._gui = GuiThread()
        self._background = Background(self._gui, "napari-sammed-series")
        self._wanted: Entry | None = None  # is being read
        self._ahead: tuple[Entry, Volume] | None = None  # read before anybody asked
        self._moved = (QCursor.pos(), time.monotonic())
        self._clock = QTimer(view)
        self._clock.setInterval(_TICK)
        self._clock.timeout.connect(self._tick)
        self._soon = QTimer(view)  # until the session of the image is open
        self._soon.setInterval(_SOON)
        self._soon.timeout.connect(self._get_ready)
        view.opened.connect(self.open)
        view.stepped.connect(self.step)
        view.wanted.connect(lambda row: self._go(self.series.entries[row]))
        view.class_wanted.connect(self.new_of_class)

    def open(self, folder: Path, results: Path | None, classes: str) -> None:
        """Find the images of a folder, and go on with the first open one."""
        self._leave()

        def find() -> Series:
            chosen = None
            if classes:
                chosen = read_classes(Path(classes)) if Path(classes).is_file() else parse_classes(classes)
            return Series(folder, results, chosen)

        self._view.say(f"Looking for images in {folder} …")
        self._background.run(find, self._on_found)

    def step(self, which: str) -> None:
        """Go on, by a key of `napari_sammed.plugin.views.series.STEPS`."""
        if self.series is None:
            return
        if which == "done" and self._wanted is not None:  # nobody has seen it yet
            return
        entry = self._wanted or self.current
        if entry is not None and (which == "skip" or (which == "done" and not entry.error)):
            entry.state = "done" if which == "done" else "skipped"
        beside = self.series.beside(entry, -1 if which == "before" else 1, all_=not self._view.only_open.isChecked())
        if beside is None and which == "done":
            beside = self.series.beside(None, 1)  # those that were passed over
        if beside is None:
            self._save()
            self._show()
            done, total = self.series.count("done"), len(self.series.entries)
            self._view.say(f"There is no further image in this direction: {done} of {total} are done.")
        else:
            self._go(beside)

    def new_of_class(self, row: int) -> None:
        """Make another object of a class the current one."""
        session = self._session
        if session is None or self.series is None:
            return
        try:
            new_of_class(session, self.series.classes[row])
        except InputError as error:
            self._view.say(messages.failure(error) or "")

    def close(self, wait: bool = False) -> None:
        """Save, and let go."""
        if self._closed:
            return
        self._closed = True
        self._clock.stop()
        self._soon.stop()
        self._leave(remove=False)
        self._gui.close()
        self._background.close(wait)

    # ---- opening -------------------------------------------------------------------------------------------------

    def _on_found(self, future: Future[Series]) -> None:
        if future.exception() is not None:
            self._view.say(messages.failure(future.exception()) or "")
            return
        series = self.series = future.result()
        self._view.set_classes(series.classes)
        self._view.set_usable(True)
        self._view.say("" if series.classes else "No classes yet: every object will be left out of the label images.")
        self._clock.start()
        first = series.beside(None, 1)
        if first is None:
            self._show()
            self._view.say(f"All {len(series.entries)} images are done or skipped: double click one to see it.")
        else:
            self._go(first)

    def _go(self, entry: Entry) -> None:
        """Save what is open, and open another one; it is read beside the GUI thread."""
        self._note = ""
        self._save()
        self._wanted = entry
        self._show()
        if self._ahead is not None and self._ahead[0] is entry:
            volume = self._ahead[1]
            self._clear(lambda: self._on_volume(entry, volume))
            return
        self._view.say(f"Reading {entry.path} …")
        series = self.series
        self._background.run(lambda: _read(series, entry), lambda future: self._on_read(entry, future))

    def _on_read(self, entry: Entry, future: Future[Volume]) -> None:
        if self._wanted is not entry:  # the user has gone on meanwhile
            return
        if future.exception() is not None:
            self._wanted = None
            self._clear(lambda: None)
            self.current, entry.error = entry, messages.failure(future.exception()) or ""
            self._view.say(f"{self._note} {entry.error} Go on with the next one.".strip())
            self._write_state()
            self._show()
        else:
            volume = future.result()
            self._clear(lambda: self._on_volume(entry, volume))

    def _on_volume(self, entry: Entry, volume: Volume) -> None:
        if self._wanted is not entry or self._closed:
            return
        series = self.series
        self._ahead = self._wanted = None
        data, options, _ = image_layer(volume, entry.path, {"series": entry.series} if entry.series else {})
        metadata = options["metadata"]
        metadata[READ_KEY] = {**metadata[READ_KEY], "path": str(series.image(entry))}
        metadata[JOURNAL_KEY] = series.session_file(entry)
        self._coordinator = self._open_coordinator()
        self.current = entry
        self.layer = self.viewer.add_image(data, **options)
        self._coordinator.choose_image(self.layer)
        self._soon.start()
        series.note_opened(entry)
        self._view.say(self._note)
        self._write_state()
        self._show()
        self._read_ahead(entry)

    def _read_ahead(self, entry: Entry) -> None:
        """Have the next image read meanwhile."""
        series, following = self.series, self.series.beside(entry, 1)
        if following is None:
            return

        def then(future: Future[Volume]) -> None:
            if self.current is entry and future.exception() is None:
                self._ahead = following, future.result()

        self._background.run(lambda: _read(series, following), then)

    # ---- saving --------------------------------------------------------------------------------------------------

    def _save(self) -> None:
        """Write label image and state of what is open, beside the GUI thread."""
        session, series, entry = self._session, self.series, self.current
        if series is None or entry is None:
            return
        if session is None or session.read_only:
            self._write_state()
            return

        def work() -> list[str]:
            _, left_out = write_result(series, entry, session)
            series.save()
            return left_out

        self._background.run(work, lambda future: self._on_saved(entry, future))

    def _on_saved(self, entry: Entry, future: Future[list[str]]) -> None:
        if future.exception() is not None:
            entry.error = messages.failure(future.exception()) or ""
            entry.state = "open"
            self._note = f"{entry.path} could not be saved: {entry.error}"
        elif future.result():
            names = ", ".join(future.result())
            self._note = f"{entry.path}: {names} without a class of the list, so left out of the label image."
        if self._note:
            self._view.say(self._note)
        self._show()

    def _write_state(self) -> None:
        series = self.series

        def then(future: Future[None]) -> None:
            if future.exception() is not None:
                self._view.say(messages.failure(future.exception()) or "")

        self._background.run(series.save, then)

    def _leave(self, *, remove: bool = True) -> None:
        if self.series is not None:
            self._save()
        if remove:
            self._clear(lambda: None)
        self.current = self._wanted = self._ahead = None

    def _clear(self, then: Callable[[], None]) -> None:
        """Take the image and its layers away, which are in files, and go on when they are gone."""
        self._soon.stop()
        layer, self.layer = self.layer, None
        going: list[Layer] = []
        if layer is not None and layer in self.viewer.layers:
            segmentation = None if self._coordinator is None else self._coordinator.current
            if segmentation is not None and segmentation.image is layer:
                going += segmentation.writer.own
            going.append(layer)
        take_away(self._view, self.viewer, going, then)

    # ---- inside --------------------------------------------------------------------------------------------------

    @property
    def _session(self) -> Session | None:
        """Of the image that is open, if the user has not turned to another layer."""
        if self.layer is None:
            return None
        segmentation = None if self._coordinator is None else self._coordinator.current
        return None if segmentation is None or segmentation.image is not self.layer else segmentation.session

    def _show(self) -> None:
        if self.series is not None:
            self._view.set_entries(self.series.entries, self.current)
            self._show_time()

    def _show_time(self) -> None:
        if self.current is not None:
            self._view.set_time(self.current.seconds, self.series.seconds_left)

    def _get_ready(self) -> None:
        """Have an object for each class as soon as the session is open."""
        session = self._session
        if session is None:
            return
        self._soon.stop()
        try:
            make_objects(session, self.series.classes)
        except InputError as error:
            self._view.say(messages.failure(error) or "")

    def _tick(self) -> None:
        """A second has passed."""
        session = self._session
        place, moved = self._moved
        now = QCursor.pos()
        if now != place or (session is not None and session.busy):
            self._moved = now, time.monotonic()
        elif time.monotonic() - moved > IDLE:
            return
        if self.current is not None and self.layer is not None:
            self.current.seconds += _TICK / 1000
            self._show_time()


def _read(series: Series, entry: Entry) -> Volume:
    return read_volume(series.image(entry), series=entry.series)
