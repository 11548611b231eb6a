"""Saves the objects of all frames of a layer: in one file with an axis of frames, or in a file a frame."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sammed import messages
from napari_sammed.errors import Cancelled, InputError
from napari_sammed.geometry import Grid
from napari_sammed.plugin.features.saving import check_source, may_overwrite, write_table
from napari_sammed.plugin.gui_thread import Background, GuiThread
from napari_sammed.plugin.image.coordinates import grid_of, matrix_of
from napari_sammed.plugin.image.images import source_of, spatial_shape
from napari_sammed.plugin.sessions.frame_journals import frames_with_objects, frames_worked_on
from napari_sammed.session.frame_files import (
    check_apart,
    check_together,
    frame_file,
    names_file,
    save_apart,
    save_together,
)
from napari_sammed.session.frames import Frame, Values, table, values_of
from napari_sammed.session.separate_files import object_files, stem_and_ending

if TYPE_CHECKING:
    from napari_sammed.plugin.features.frames import Frames
    from napari_sammed.plugin.image.axes import Axes
    from napari_sammed.plugin.image.image_view import ImageView
    from napari_sammed.plugin.segmentation import Segmentation
    from napari_sammed.plugin.sessions.open_sessions import Sessions
    from napari_sammed.plugin.views.panel import Panel


@dataclass(frozen=True)
class _Wish:
    """What is to be saved, as the panel said when the user asked."""

    path: Path
    together: bool
    each: bool
    table: bool
    axes: Axes
    views: list[ImageView]
    grid: Grid
    cancel: threading.Event

    @property
    def along(self) -> list[int]:
        """The axes of the layer along which there are frames."""
        return [axis for axis in range(len(self.views[0].at)) if len({view.at[axis] for view in self.views}) > 1]

    @property
    def tags(self) -> list[str]:
        """Of each frame, for file names."""
        along, key = self.along, self.axes.key
        width = {axis: 1 if key[axis] == "c" else max(3, len(str(self.axes.shape[axis] - 1))) for axis in along}
        return ["_".join(f"{key[axis]}{view.at[axis]:0{width[axis]}d}" for axis in along) for view in self.views]

    def axis(self, found: list[Frame]) -> int:
        """The one axis of the frames in a file; channels without objects need none."""
        places = [self.views[frame.index].at for frame in found]
        along = [
            axis for axis in self.along if self.axes.key[axis] != "c" or len({place[axis] for place in places}) > 1
        ]
        along = along or self.along[-1:]
        if len(along) > 1:
            raise InputError(
                "One file has one axis of frames, but there are objects on frames along several axes: choose a channel "
                "in the section Frames, or save all frames as a file each."
            )
        return along[0]


class AllFrames:
    """Finds the objects of frames that are not shown, and writes all. Belongs to the GUI thread.

    Parameters
    ----------
    panel : Panel
    gui : GuiThread
    sessions : Sessions
    frames : Frames
    """

    def __init__(self, panel: Panel, gui: GuiThread, sessions: Sessions, frames: Frames) -> None:
        self._panel = panel
        self._gui = gui
        self._sessions = sessions
        self._frames = frames
        self._background = Background(gui)  # of its own: another frame can be opened meanwhile
        self._cancel = threading.Event()
        self._busy = False
        self._marked: dict[Any, set[tuple[int | None, ...]]] = {}  # frames with objects, by the layer's own number
        panel.status.cancelled.connect(self.cancel)

    def close(self, wait: bool) -> None:
        """Stop what is running."""
        self.cancel()
        self._background.close(wait)

    def cancel(self) -> None:
        """Stop what is running; a file that is not complete is not written."""
        self._cancel.set()

    # ---- which frames Save begins with ---------------------------------------------------------------------------

    def offer(self, view: ImageView) -> None:
        """Another layer is segmented: offer its frames where it has some."""
        self._panel.save_options.offer_frames(bool(view.frame) and len(self._frames.every()[1]) > 1)
        self._suggest(view)
        source = source_of(view)
        if view.frame and "frame" in source:
            self._background.run(partial(frames_worked_on, source), partial(self._on_worked_on, view))

    def turn(self, current: Segmentation, view: ImageView) -> None:
        """The user goes on to another frame of the layer."""
        session = current.session
        if session is not None:
            marked = self._marked.setdefault(current.image.unique_id, set())
            has_objects = any(state.mask is not None for state in session.objects.values())
            (marked.add if has_objects else marked.discard)(current.view.at)
        self._suggest(view)

    def _on_worked_on(self, view: ImageView, future: Future[set[int]]) -> None:
        if future.exception() is None:
            self._marked.setdefault(view.layer.unique_id, set()).update((frame,) for frame in future.result())
            if self._frames.view is not None and self._frames.view.beside(view):
                self._suggest(self._frames.view)

    def _suggest(self, view: ImageView) -> None:
        """All frames, where there are objects on another one than that which is shown."""
        self._panel.save_options.suggest_frames(bool(self._marked.get(view.layer.unique_id, set()) - {view.at}))

    # ---- saving --------------------------------------------------------------------------------------------------

    def save(self, current: Segmentation, path: Path) -> None:
        """Write the objects of all frames as the panel says."""
        session = current.session
        if session is None:
            self._panel.status.say("The frame is still being read: save when it is there.")
            return
        if self._busy:
            self._panel.status.say("All frames are being saved already: wait for that, or cancel it.")
            return
        options, view = self._panel.save_options, current.view
        axes, views = self._frames.every()
        shape = spatial_shape(view)
        self._cancel = threading.Event()
        together = options.frames == "together"
        grid = grid_of(view, shape)
        wish = _Wish(path, together, options.each, options.table, axes, views, grid, self._cancel)
        try:
            check_source(view.source.path, [path])
            if together:
                check_together(min(axes.shape[axis] for axis in wish.along), grid, path, Values())
            else:
                check_apart(grid, path)
        except InputError as error:
            self._panel.status.say(messages.failure(error) or "")
            return
        self._start("Looking for the objects of all frames")

        def find(kept: Future[dict[str, Any]]) -> None:
            look = partial(frames_with_objects, views, wish.tags, (view, session), kept.result())
            self._run(partial(look, progress=self._tell(0.0, 0.5), cancel=wish.cancel), partial(self._write, wish))

        self._sessions.kept(find)

    def _write(self, wish: _Wish, found: list[Frame]) -> None:
        """Ask what has to be asked, and write."""
        if not found:
            raise InputError("There is nothing to save: no object has a mask yet on any frame.")
        count = 0
        step = 1.0
        if wish.together or len(wish.along) == 1:
            axis = wish.axis(found)
            count, step = wish.axes.shape[axis], _step(wish.views[0], axis)
            found = [replace(frame, index=wish.views[frame.index].at[axis]) for frame in found]
        values = values_of(found)
        targets = {wish.path: values}
        if wish.each:
            targets = {file: values.only(value) for value, file in object_files(values.names, wish.path).items()}
        if wish.together:
            check_together(count, wish.grid, wish.path, values)
            files = list(targets)
        else:
            files = [frame_file(path, frame) for path, own in targets.items() for frame in found if own.of[frame.index]]
        sheet = wish.path.with_name(f"{stem_and_ending(wish.path)[0]}.csv") if wish.table else None
        lists = [names_file(path, together=wish.together) for path in targets]
        every = [file for file in (*files, *lists, sheet) if file is not None]
        check_source(wish.views[0].source.path, every)
        there = [file for file in every if file.exists() and file != (wish.path if wish.together else None)]
        if there and not may_overwrite(self._panel, there):
            raise Cancelled

        def work() -> str:
            for number, (path, own) in enumerate(targets.items()):
                tell = self._tell(0.5 + 0.5 * number / len(targets), 0.5 / len(targets))
                if wish.together:
                    save_together(found, count, wish.grid, path, own, step=step, progress=tell, cancel=wish.cancel)
                else:
                    save_apart(found, wish.grid, path, own, progress=tell, cancel=wish.cancel)
            where = f"{messages.counted(len(files), 'file')} in {wish.path.parent}" if len(files) > 1 else files[0]
            said = f"the objects of {messages.counted(len(found), 'frame')} to {where}"
            if sheet is not None:
                write_table(sheet, table(found, values, wish.grid))
                said += f", the table to {sheet.name}"
            return said

        self._run(work, self._saved)

    def _saved(self, said: str) -> None:
        self._stop(f"Saved {said}.")

    def _run(self, work: Callable[[], Any], then: Callable[[Any], None]) -> None:
        """Work beside the GUI thread, then go on with what came out; whatever fails ends the saving."""

        def done(future: Future[Any]) -> None:
            try:
                then(future.result())
            except Cancelled:
                self._stop("Nothing more was saved: files that were complete stay.")
            except Exception as error:
                self._stop(messages.failure(error) or "")

        self._background.run(work, done)

    def _start(self, text: str) -> None:
        self._busy = True
        self._panel.status.set_busy(True)
        self._panel.status.set_progress(f"{text} …", 0)

    def _stop(self, text: str) -> None:
        self._busy = False
        self._panel.status.set_busy(False)
        self._panel.status.say(text)

    def _tell(self, start: float, share: float) -> Callable[[str, float], None]:
        """Progress, as a part of the whole."""

        def show(text: str, fraction: float) -> None:
            if self._busy:
                self._panel.status.set_busy(True)  # an answer for the frame that is shown may have ended it
                self._panel.status.set_progress(f"{text[:1].upper()}{text[1:]} …", start + share * fraction)

        return lambda text, fraction: self._gui.post(show, text, fraction)


def _step(view: ImageView, axis: int) -> float:
    """From frame to frame, as the layer has it."""
    return float(np.abs(matrix_of(view.layer)[axis, axis])) or 1.0
