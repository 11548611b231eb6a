"""The way in for the module, the Segment Editor effect and scripts: segment volumes of a scene with napari-sammed.

    mailbox = Mailbox()                                   # a GUI's timer calls mailbox.run(patience)
    logic = SammedLogic(mailbox.post, Listener())
    segmentation = logic.open(volume)                     # or logic.open(volume, segmentation)
    logic.add_point(fiducials, 0)                         # a click; also add_box, add_lasso, add_stroke, add
    logic.next_segment("liver")                           # further prompts are about this one
    logic.undo()

Everything is called on the main thread and returns at once; images are hashed, models loaded and questions answered
elsewhere, and what comes of it goes through ``post`` back to the main thread, where segments are written and the
listener is told. Prompts that do not fit raise `napari_sammed.errors.InputError`, whose text is for the user.

A volume and a segmentation make a session. Switching between them keeps all sessions; one ends when one of its nodes
leaves the scene, and an answer that comes later is dropped. The journal of each is kept in the scene.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import slicer

from . import volumes
from .delivery import Listener
from .journal_nodes import JournalNode
from .opening import Opened, Opener, Pair, local_backend
from .prompting import AUTO, Prompting
from .scene_session import SceneSession
from .segments import EditorLogic, SegmentWriter, Target

if TYPE_CHECKING:
    from napari_sammed.backend.base import Backend, Prediction
    from napari_sammed.intensity import Window
    from napari_sammed.session import Session
    from napari_sammed.session.actions import ObjectState


class SammedLogic(Prompting):
    """Segments volumes of a scene.

    Parameters
    ----------
    post : callable
        ``post(function, *arguments)`` has the main thread call a function soon; from any thread
        (`SammedLib.delivery.Mailbox.post`).
    listener : Listener, optional
    scene : vtkMRMLScene, optional
        Default: ``slicer.mrmlScene``.
    make_backend : callable, optional
        Makes the backend when one is needed first, beside the main thread; default: one in this process, on a GPU if
        there is one.

    Attributes
    ----------
    model : str
        Registry name of the model for prompts to come, or "auto".
    window : Window or None
        Mapping of grey values for prompts to come; None lets the image decide.
    """

    def __init__(
        self,
        post: Callable[..., None],
        listener: Listener | None = None,
        *,
        scene: slicer.vtkMRMLScene | None = None,
        make_backend: Callable[[], Backend] | None = None,
    ) -> None:
        self.model = AUTO
        self.window: Window | None = None
        self._post = post
        self._listener = listener or Listener()
        self._scene = scene or slicer.mrmlScene
        self._opener = Opener(make_backend or local_backend)
        self._pairs: list[Pair] = []
        self._current: Pair | None = None
        self._expected: set[Future[Any]] = set()
        self._waiting: list[tuple[Pair, Callable[[SceneSession], Any]]] = []
        events = (slicer.vtkMRMLScene.NodeRemovedEvent, slicer.vtkMRMLScene.EndCloseEvent)
        self._observers = [self._scene.AddObserver(event, self._on_scene) for event in events]

    # ---- what is open --------------------------------------------------------------------------------------------

    @property
    def volume(self) -> slicer.vtkMRMLVolumeNode | None:
        """The volume that prompts are about."""
        return None if self._current is None else self._current.volume

    @property
    def segmentation(self) -> slicer.vtkMRMLSegmentationNode | None:
        """The segmentation that is written to."""
        return None if self._current is None else self._current.segmentation

    @property
    def session(self) -> SceneSession | None:
        """The current session; None until it is open."""
        return None if self._current is None else self._current.session

    @property
    def segment_id(self) -> str:
        """The current segment; empty if there is none."""
        if self.session is not None:
            return self.session.segment_id
        return "" if self._current is None else self._current.wanted

    @property
    def state(self) -> ObjectState | None:
        """Prompts, mask, score and readings of the current segment; None before its first prompt."""
        return None if self.session is None else self.session.state

    @property
    def busy(self) -> bool:
        """Whether something is on its way."""
        return bool(self._expected or self._waiting)

    def open(
        self,
        volume: slicer.vtkMRMLVolumeNode,
        segmentation: slicer.vtkMRMLSegmentationNode | None = None,
        target: Target | None = None,
    ) -> slicer.vtkMRMLSegmentationNode:
        """Make a volume and a segmentation the current ones; what was done to them before goes on.

        Parameters
        ----------
        volume : vtkMRMLVolumeNode
        segmentation : vtkMRMLSegmentationNode, optional
            Default: a new one.
        target : Target, optional
            What segments are written through; default `EditorLogic`.

        Returns
        -------
        vtkMRMLSegmentationNode
            At once; the session opens beside the main thread, and what is asked meanwhile waits for it.

        Raises
        ------
        InputError
            For a volume that cannot be segmented; what was open stays so.
        """
        known = next((p for p in self._pairs if p.volume is volume and p.segmentation is segmentation), None)
        if known is not None and known.broken is None and known.voxels.holds(volume):
            self._current = known
            if target is not None:
                self._retarget(known, target)
            self._listener.changed()
            return known.segmentation
        return self._start(volume, segmentation, target, known).segmentation

    def use_backend(self, make_backend: Callable[[], Backend]) -> None:
        """Answer from elsewhere from now on: another device, a server. Sessions go on where they are, and what has no
        answer because of the old backend is asked again.
        """
        from napari_sammed.errors import InputError

        before, current = [pair for pair in self._pairs if pair.alive], self._current
        waiting = self._waiting
        for pair in before:
            if pair.session is not None:
                with contextlib.suppress(InputError):  # of a volume that is bent by now
                    pair.session.follow()  # the next session cannot know what the editor took back
                pair.unanswered |= pair.session.session.busy
            self._drop(pair)
        self._opener.exchange(make_backend)
        for pair in before:
            try:
                again = self._start(pair.volume, pair.segmentation, pair.target, pair)
            except InputError as error:  # it can be segmented no more, the others can
                self._listener.failed(error)
                continue
            if pair.voxels.holds(pair.volume):
                self._waiting += [(again, action) for other, action in waiting if other is pair]
        now = [pair for pair in self._pairs if current is not None and pair.volume is current.volume]
        self._current = next((pair for pair in now if pair.segmentation is current.segmentation), None)
        self._listener.changed()

    def close(self) -> None:
        """End all sessions, and the backend; segments and journals stay in the scene."""
        if not self._observers:
            return
        for tag in self._observers:
            self._scene.RemoveObserver(tag)
        self._observers = []
        for pair in list(self._pairs):
            self._drop(pair)
        self._opener.close()

    def cancel(self) -> None:
        """Stop what is on its way; prompts stay, and are answered with the next one."""
        self._waiting = [(pair, action) for pair, action in self._waiting if pair is not self._current]
        if self.session is not None:
            self.session.session.cancel()
        self._listener.changed()

    # ---- inside --------------------------------------------------------------------------------------------------

    def _image(self) -> slicer.vtkMRMLVolumeNode:
        from napari_sammed.errors import InputError

        if self._current is None or not self._current.alive:
            raise InputError("There is no volume to segment: choose one first.")
        return self._current.volume

    def _ask(self, question: Callable[[Session], Future[Prediction] | None]) -> None:
        def ask(scene_session: SceneSession) -> None:
            session = scene_session.session
            session.model = self.model
            if self.window is not None:
                session.window = self.window
            future = scene_session.ask(lambda: question(session))
            if future is not None:
                self._expect(future, self._listener.answered, self._current)

        self._image()
        if not self._current.voxels.holds(self._current.volume):
            self.open(self._current.volume, self._current.segmentation, self._current.target)
        self._when_open(ask)

    def _when_open(self, action: Callable[[SceneSession], Any]) -> None:
        self._image()
        pair = self._current
        if pair.broken is not None:
            raise pair.broken
        if pair.session is None:
            self._waiting.append((pair, action))
        else:
            action(pair.session)
        self._listener.changed()

    def _start(
        self,
        volume: slicer.vtkMRMLVolumeNode,
        segmentation: slicer.vtkMRMLSegmentationNode | None,
        target: Target | None,
        before: Pair | None,
    ) -> Pair:
        """Have a session opened, which goes on from what is kept in the scene, in the place of another one if any."""
        if before is not None and before.session is not None and before.voxels.holds(volume):
            image = before.session.session.image  # another copy would take its time, and memory
        else:
            image = volumes.volume_of(volume)
        if before in self._pairs:
            self._drop(before)
        if segmentation is None:
            name = self._scene.GenerateUniqueName(f"{volume.GetName()} segmentation")
            segmentation = self._scene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
        pair = Pair(volume, segmentation, target or EditorLogic(self._scene, volume), volumes.State(volume))
        kept = JournalNode.of(self._scene, volume, segmentation)
        if before is not None:
            pair.wanted = before.wanted
            pair.unanswered = before.unanswered
            if not before.voxels.holds(volume):
                kept.clear()  # prompts about the old voxels mean nothing
        self._pairs.append(pair)
        self._current = pair
        future = self._opener.open(image, kept.lines)
        self._expect(future, lambda opened: self._opened(pair, opened, kept), pair)
        return pair

    def _opened(self, pair: Pair, opened: Opened, kept: JournalNode) -> None:
        session, told = opened.session, self._listener.changed
        if pair not in self._pairs:
            self._opener.end(session)
            return
        if not opened.understood:
            kept.clear()
        writer = SegmentWriter(pair.volume, pair.segmentation, pair.target)
        journal = opened.journal
        pair.session = SceneSession(session, writer, pair.voxels, journal, kept, self._post, lambda _: told())
        if pair.wanted:
            pair.session.segment_id = pair.wanted
        for future in session.resume(self._progress) if pair.unanswered else ():
            self._expect(future, self._listener.answered, pair)
        pair.unanswered = False
        mine = [action for other, action in self._waiting if other is pair]
        self._waiting = [(other, action) for other, action in self._waiting if other is not pair]
        current, self._current = self._current, pair
        for action in mine:
            try:
                action(pair.session)
            except Exception as error:
                self._listener.failed(error)
        self._current = current

    def _stepped(self, done: tuple[str, Any] | None) -> None:
        for future in () if done is None else done[1]:
            self._expect(future, self._listener.answered, self._current)

    def _expect(self, future: Future[Any], then: Callable[[Any], None], pair: Pair) -> None:
        """Hand a result to a function on the main thread when it is there, unless its nodes are gone by then."""
        self._expected.add(future)
        future.add_done_callback(lambda done: self._post(self._arrived, done, then, pair))
        self._listener.changed()

    def _arrived(self, future: Future[Any], then: Callable[[Any], None], pair: Pair) -> None:
        from napari_sammed.errors import Cancelled, InputError

        self._expected.discard(future)
        error = None if future.cancelled() else future.exception()
        if error is not None and not isinstance(error, Cancelled) and pair in self._pairs:
            pair.unanswered |= isinstance(error, InputError)
            if pair.session is None:
                pair.broken = error
                self._waiting = [(other, action) for other, action in self._waiting if other is not pair]
            self._listener.failed(error)
        elif error is None and not future.cancelled() and (pair in self._pairs or pair.session is None):
            then(future.result())
        self._listener.changed()

    def _progress(self, what: str, share: float) -> None:
        self._post(self._listener.progressed, what, share)

    def _retarget(self, pair: Pair, target: Target) -> None:
        pair.target = target
        if pair.session is not None:
            pair.session.writer.target = target

    def _drop(self, pair: Pair) -> None:
        self._pairs.remove(pair)
        self._waiting = [(other, action) for other, action in self._waiting if other is not pair]
        if self._current is pair:
            self._current = None
        if pair.session is not None:
            pair.wanted = pair.session.segment_id
            pair.session.close()
            pair.session.session.cancel()
            if not pair.alive and not self._scene.IsClosing():
                self._post(self._scene.RemoveNode, pair.session.kept.node)
            self._opener.end(pair.session.session)

    def _on_scene(self, *_: Any) -> None:
        """Nodes have left the scene: end the sessions about them."""
        gone = [pair for pair in self._pairs if not pair.alive]
        for pair in gone:
            self._drop(pair)
        if gone:
            self._listener.changed()
