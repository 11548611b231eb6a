"""A session whose objects are the segments of one segmentation node; what the session says is written to the segments.

The segments are the truth. What masking kept from a segment, or took from a neighbour, is told to the session as an
edit that belongs to the same action of the user; what others have changed (a brush, the editor's own undo) is taken
over before the next question. All methods belong to the main thread.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from . import names, volumes
from .edits import Edits
from .journal_nodes import JournalNode
from .segments import Edit, SegmentWriter, part_of

if TYPE_CHECKING:
    from concurrent.futures import Future
    from pathlib import Path

    from napari_sammed.backend.base import Prediction
    from napari_sammed.geometry import Box
    from napari_sammed.prompts import MaskPrompt
    from napari_sammed.session import Change, Session
    from napari_sammed.session.actions import ObjectState


class SceneSession:
    """One volume node, one segmentation node, and the session about them.

    Parameters
    ----------
    session : Session
        Whose journal is the file `journal`.
    writer : SegmentWriter
    voxels : volumes.State
        What the session is about: when the volume has other voxels, nothing is written any more.
    journal : Path
    kept : JournalNode
        Where the journal is kept in the scene.
    post : callable
        ``post(function, *arguments)`` has the main thread call a function soon; from any thread.
    on_shown : callable
        Called with a segment's ID after its voxels have changed.

    Attributes
    ----------
    segment_id : str
        The current segment; empty if there is none yet.
    kept : JournalNode
    """

    def __init__(
        self,
        session: Session,
        writer: SegmentWriter,
        voxels: volumes.State,
        journal: Path,
        kept: JournalNode,
        post: Callable[..., None],
        on_shown: Callable[[str], None],
    ) -> None:
        self.session = session
        self.writer = writer
        self._voxels = voxels
        self.segment_id = kept.segments.get(session.current, "")
        self.kept = kept
        self._journal = journal.open("rb")
        self._post = post
        self._on_shown = on_shown
        self._main = threading.get_ident()
        self._quiet = False
        self._closed = False
        self._segments = kept.segments  # by label
        self._together = kept.together  # actions that belong to another one
        self._edits = Edits(writer)
        self._answered = set(session.history.answers)
        self._news: deque[tuple[int, MaskPrompt | None, Box, int]] = deque()  # heard and not written yet
        self._seen: dict[int, int] = {}  # by label: the segment's time when it was last compared
        self._keep_lines(all_of_them=not kept.lines)
        session.on_change(self._heard)

    @property
    def alive(self) -> bool:
        """Whether both nodes are still in their scene."""
        nodes = (self.writer.volume, self.writer.segmentation)
        return not self._closed and all(node.GetScene() is not None for node in nodes)

    @property
    def state(self) -> ObjectState | None:
        """The current segment's object; None before its first prompt."""
        return self.session.objects.get(self._label_of(self.segment_id))

    def close(self) -> None:
        """Write nothing from now on; the session itself is closed by whoever opened it."""
        from napari_sammed.errors import InputError

        if self.alive:
            with contextlib.suppress(InputError):  # the volume is bent by now, so that nothing can be written
                self._catch_up()
            self._keep()
        self._closed = True
        self._journal.close()

    # ---- what the user does --------------------------------------------------------------------------------------

    def next_segment(self, name: str = "") -> str:
        """Add an empty segment and make it the current one; returns its ID."""
        self.writer.target.save_state(self.writer.segmentation)
        self.segment_id = names.add_segment(self.writer.segmentation, name)
        return self.segment_id

    def ask(self, question: Callable[[], Future[Prediction]]) -> Future[Prediction]:
        """Put a question to the session about the current segment (a new one if there is none).

        Parameters
        ----------
        question : callable
            Puts it, and returns the answer to come.
        """
        self.follow()
        fresh = self.segment_id not in self.writer.ids
        if fresh:
            self.next_segment()
        count = len(self.session.history.done)
        before = self._adopt()
        try:
            future = question()
        except Exception:  # nothing has happened then: neither a segment nor an object was made
            while len(self.session.history.done) > count:
                with self._silence():
                    self.session.undo()
            if fresh:
                self.writer.segmentation.GetSegmentation().RemoveSegment(self.segment_id)
                self.segment_id = ""
            raise
        if before is not None:
            self._together[before] = self.session.history.done[-1].id
        self._keep()
        return future

    def undo(self) -> tuple[str, Sequence[Future[Prediction]]] | None:
        """Take the user's latest action back, in all segments that it changed.

        Returns
        -------
        tuple or None
            What the action was (`napari_sammed.session.actions.Deed`), and answers to come to what is open again; None
            if there was nothing.
        """
        self.follow()
        return self._step(self.session.undo, lambda history: history.done, "before")

    def redo(self) -> tuple[str, Sequence[Future[Prediction]]] | None:
        """Do again what was taken back last; as `undo`."""
        self.follow()
        return self._step(self.session.redo, lambda history: history.undone, "after")

    def choose_reading(self, step: int) -> None:
        """Show the next reading of the current segment's latest, ambiguous answer, or with -1 the one before."""
        self.follow()
        self.session.next_reading(step, self._label_of(self.segment_id))
        self._catch_up()

    def follow(self) -> None:
        """Write what is waiting, and take over what others have done to the segments since."""
        self._catch_up()
        if not self.writer.exact:
            return  # masks that were resampled differ at their edges without anybody's doing
        while self._undone_by_others() or self._redone_by_others():
            pass
        for label, state in self.session.objects.items():
            segment_id = self._segments.get(label)
            if segment_id is None:
                continue
            if segment_id not in self.writer.ids:
                with self._silence():
                    self.session.delete(label)
            elif self._seen.get(label) != self.writer.time(segment_id):
                self._take_painting(label, segment_id, state.mask)
        self._keep()

    # ---- what the session says -----------------------------------------------------------------------------------

    def _heard(self, change: Change) -> None:
        """On any thread: find out what the change belongs to and let the main thread write it."""
        if change.box is None or (self._quiet and threading.get_ident() == self._main):
            return
        history, objects = self.session.history, self.session.objects
        new = [number for number in tuple(history.answers) if number not in self._answered]
        for label in change.labels:
            own = [number for number in new if history.find(number).label == label]
            self._answered.update(own)
            if label in objects:
                latest = history.latest(label)  # none when the last prompt was taken away
                action = own[-1] if own else (history.done[-1] if latest is None else latest[0]).id
                self._news.append((label, objects[label].mask, change.box, action))
        self._post(self._catch_up)

    def _catch_up(self) -> None:
        """Write what has been heard."""
        while self._news:
            self._show(*self._news.popleft())

    def _show(self, label: int, mask: MaskPrompt | None, box: Box, action: int) -> None:
        segment_id = self._segments.get(label)
        if not self.alive or not self._voxels.same_voxels(self.writer.volume):
            return
        if segment_id not in self.writer.ids or not self._stands(action):
            return
        self.write(label, mask, box, action)
        self._on_shown(segment_id)

    def write(self, label: int, mask: MaskPrompt | None, box: Box, action: int) -> None:
        """Make an object's segment look like a mask inside a box, as one state of the editor's undo an action."""
        segment_id = self._segments[label]
        wanted = part_of(mask, box)
        if np.array_equal(self.writer.read(segment_id, box), wanted):
            self._keep()
            return
        known = {other for other, id_ in self._segments.items() if self._seen.get(other) == self.writer.time(id_)}
        self.writer.target.save_state(self.writer.segmentation)
        edit = self.writer.write(segment_id, box, wanted)
        self._edits.add(action, edit)
        untold = self._settle(label, box, edit, action)
        self._seen |= {other: self.writer.time(self._segments[other]) for other in known - untold}
        for other in untold:
            self._seen.pop(other, None)
        self._keep()

    # ---- inside --------------------------------------------------------------------------------------------------

    def _settle(self, label: int, box: Box, edit: Edit | None, action: int) -> set[int]:
        """Tell the session what its objects really look like after a write, as part of the same action.

        Returns
        -------
        set of int
            Objects that could not be told of, since a newer question stands; its answer settles them.
        """
        touched = {label: box}
        for other, segment_id in self._segments.items():
            if edit is not None and segment_id in edit.after and other != label:
                touched[other] = edit.box
        if not self.writer.exact or self._whole(self.session.history.done[-1].id) != action:
            return set(touched)
        for other, where in touched.items():
            state = self.session.objects.get(other)
            if state is not None:
                self._edit(other, self.writer.read(self._segments[other], where), where, state.mask, action)
        return set()

    def _edit(self, label: int, real: np.ndarray, box: Box, known: MaskPrompt | None, action: int | None) -> None:
        """Tell the session of an object's real voxels, if it does not know them.

        Without an action that they belong to, somebody has painted them, which models must not undo.
        """
        from napari_sammed.geometry import Box

        tight = Box.of_mask(real != part_of(known, box))
        if tight is None:
            return
        with self._silence():
            self.session.edit(real[tight.slices], tight.shift(box.low), label, held=action is None)
        own = self.session.history.done[-1].id
        self._answered.add(own)
        if action is not None:
            self._together[own] = action

    def _take_painting(self, label: int, segment_id: str, known: MaskPrompt | None) -> None:
        box = self.writer.extent(segment_id)
        if known is not None:
            box = known.extent if box is None else box.union(known.extent)
        if box is not None:
            self._edit(label, self.writer.read(segment_id, box), box, known, None)
        self._seen[label] = self.writer.time(segment_id)

    def _step(
        self, step: Callable[[], Any], stack: Callable[[Any], list[Any]], looks: str
    ) -> tuple[str, Sequence[Future[Prediction]]] | None:
        history = self.session.history
        if not stack(history):
            return None
        whole = self._whole(stack(history)[-1].id)
        actions, answers, deed = [], [], ""
        with self._silence():
            while stack(history) and self._whole(stack(history)[-1].id) == whole:
                done = step()
                actions.append(done.action)
                answers += done.answers
                deed = done.action.do if done.action.id == whole else deed
        exactly = self._edits.put(whole, looks)
        for label in dict.fromkeys(action.label for action in actions):
            self._match(label, anew=not exactly)
            if self._segments.get(label) in self.writer.ids:
                self.segment_id = self._segments[label]
                self._on_shown(self.segment_id)
        self._keep()
        return deed, answers

    def _match(self, label: int, *, anew: bool) -> None:
        """After a step: bring a deleted segment back; with ``anew``, write all of its mask."""
        state = self.session.objects.get(label)
        segment_id = self._segments.get(label)
        if segment_id is None or (state is None and segment_id not in self.writer.ids):
            return
        if segment_id not in self.writer.ids:
            names.add_segment(self.writer.segmentation, state.name, segment_id)
            anew = True
        box = self.writer.extent(segment_id)
        mask = None if state is None else state.mask
        if anew and mask is not None:
            box = mask.extent if box is None else box.union(mask.extent)
        if anew and box is not None:
            self.writer.put(box, {segment_id: part_of(mask, box)})
        self._seen[label] = self.writer.time(segment_id)

    def _undone_by_others(self) -> bool:
        """Whether the segments look as before the last action (the editor's own undo): then it is taken back."""
        return self._stepped_by_others(self.session.undo, self.session.history.done, "before", "after")

    def _redone_by_others(self) -> bool:
        return self._stepped_by_others(self.session.redo, self.session.history.undone, "after", "before")

    def _stepped_by_others(self, step: Callable[[], Any], stack: list[Any], now: str, then: str) -> bool:
        whole = self._whole(stack[-1].id) if stack else -1
        if not self._edits.only(whole, now, then):
            return False
        with self._silence():
            while stack and self._whole(stack[-1].id) == whole:
                step()
        for label, segment_id in self._segments.items():
            self._seen[label] = self.writer.time(segment_id)
        return True

    def _adopt(self) -> int | None:
        """See that the current segment is the session's current object; the action that made it one, if it was not."""
        from napari_sammed.prompts import MaskPrompt

        label = self._label_of(self.segment_id)
        if label in self.session.objects:
            self.session.select(label)
            return None
        name = self.writer.segmentation.GetSegmentation().GetSegment(self.segment_id).GetName()
        box = self.writer.extent(self.segment_id)
        voxels = None if box is None else self.writer.read(self.segment_id, box)
        with self._silence():
            if voxels is not None and voxels.any():
                label = self.session.take(MaskPrompt(voxels, box.low), name)
            else:
                label = self.session.new_object(name)
        made = self.session.history.done[-1].id
        self._answered.add(made)
        self._segments = {k: v for k, v in self._segments.items() if v != self.segment_id}
        self._segments[label] = self.segment_id
        self._seen[label] = self.writer.time(self.segment_id)
        return made

    def _label_of(self, segment_id: str) -> int:
        return next((label for label, known in self._segments.items() if known == segment_id), 0)

    def _whole(self, action: int) -> int:
        """The user's action that an action of the session belongs to."""
        return self._together.get(action, action)

    def _stands(self, action: int) -> bool:
        return any(done.id == action for done in tuple(self.session.history.done))

    @contextlib.contextmanager
    def _silence(self) -> Iterator[None]:
        """Do not write what the session says meanwhile on this thread."""
        before, self._quiet = self._quiet, True
        try:
            yield
        finally:
            self._quiet = before

    def _keep(self) -> None:
        """Bring the journal in the scene up to date."""
        self.kept.segments = self._segments
        self.kept.together = self._together
        self._keep_lines()

    def _keep_lines(self, all_of_them: bool = True) -> None:
        lines = []
        while (line := self._journal.readline()).endswith(b"\n"):
            lines.append(line[:-1].decode())
        self._journal.seek(-len(line), 1)  # a line that is being written
        if lines and all_of_them:
            self.kept.append(lines)
