"""What the user does with segments: prompts, undo, readings, propagation; each returns at once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import slicer

from . import markups

if TYPE_CHECKING:
    from napari_sammed.backend.base import Prediction
    from napari_sammed.prompts import Prompt, Prompts
    from napari_sammed.session import Session
    from napari_sammed.session.actions import ObjectState

    from .scene_session import SceneSession

AUTO = "auto"
"""As a model's name: let the session choose by volume and prompt."""


class Prompting:
    """About the current segment; what is open, and how answers come back, is `SammedLib.logic.SammedLogic`'s.

    Attributes
    ----------
    model : str
        Registry name of the model for prompts to come, or "auto".
    """

    model: str

    def next_segment(self, name: str = "") -> None:
        """Start another segment; prompts are about it from now on."""
        self._when_open(lambda session: session.next_segment(name))

    def select(self, segment_id: str) -> None:
        """Make a segment the one that prompts are about; one that was made elsewhere is gone on from as it is."""

        def choose(session: SceneSession) -> None:
            session.segment_id = segment_id

        self._when_open(choose)

    def add_point(self, node: slicer.vtkMRMLMarkupsFiducialNode, number: int, *, positive: bool = True) -> None:
        """Take a control point as a click."""
        self.add(markups.point(node, number, self._image(), positive=positive))

    def add_box(self, node: slicer.vtkMRMLMarkupsROINode, *, on: tuple[int, int] | None = None) -> None:
        """Take an ROI as a box; with ``on`` (`volumes.slice_shown`) on one slice only."""
        self.add(markups.box(node, self._image(), on=on), axis=None if on is None else on[0])

    def add_lasso(self, node: slicer.vtkMRMLMarkupsClosedCurveNode) -> None:
        """Take a closed curve on a slice as a coarse mask."""
        self.add(markups.lasso(node, self._image()))

    def add_stroke(self, node: slicer.vtkMRMLMarkupsCurveNode, *, positive: bool = True) -> None:
        """Take an open curve as a scribble."""
        self.add(markups.stroke(node, self._image(), positive=positive))

    def add(self, prompt: Prompt, *, axis: int | None = None) -> None:
        """Add a prompt in index coordinates to the current segment (a new one if there is none), and have it answered.

        Parameters
        ----------
        prompt : Prompt
        axis : int, optional
            For models of slices: the array axis across them (`volumes.axis_across`), where the prompt leaves it open.

        Raises
        ------
        InputError
            If it does not lie in the volume.
        """
        from napari_sammed.geometry import Grid
        from napari_sammed.prompts import Prompts

        columns, rows, slices = self._image().GetImageData().GetDimensions()
        Prompts((prompt,)).check_inside(Grid.plain((slices, rows, columns)))
        self._ask(lambda session: session.add(prompt, axis=axis, progress=self._progress))

    def replace(self, number: int, prompt: Prompt, *, axis: int | None = None) -> None:
        """Put another prompt in the place of one of `state.prompts`: a point was moved."""
        self._ask(lambda session: session.replace(number, prompt, axis=axis, progress=self._progress))

    def remove(self, number: int) -> None:
        """Take one of `state.prompts` away: a point was deleted."""
        self._ask(lambda session: session.remove(number, progress=self._progress))

    def propagate(self, *, axis: int | None = None) -> None:
        """Carry the current segment through the stack of slices, with the chosen model if that looks at slices."""

        def start(session: Session) -> Future[Prediction]:
            planar = self.model != AUTO and 2 in session.backend.card(self.model).dimensions
            return session.propagate(axis=axis, model=self.model if planar else None, progress=self._progress)

        self._ask(start)

    def refine(self, node: slicer.vtkMRMLMarkupsROINode | None = None, *, axis: int | None = None) -> None:
        """Look closer at the part of the current segment in an ROI, or without one at all of it."""
        part = None if node is None else markups.box(node, self._image())
        self._ask(lambda session: session.refine(part, axis=axis, progress=self._progress))

    def next_reading(self, step: int = 1) -> None:
        """Show the next reading of an ambiguous answer, or with -1 the one before."""
        self._when_open(lambda session: session.choose_reading(step))

    def undo(self) -> None:
        """Take the latest action about the current segmentation back."""
        self._when_open(lambda session: self._stepped(session.undo()))

    def redo(self) -> None:
        """Do again what was taken back last."""
        self._when_open(lambda session: self._stepped(session.redo()))

    def prompts(self) -> Prompts | None:
        """The current segment's prompts; None before the first."""
        return None if self.state is None else self.state.prompts

    # ---- what whoever knows what is open does --------------------------------------------------------------------

    @property
    def state(self) -> ObjectState | None:
        """Prompts, mask, score and readings of the current segment; None before its first prompt."""
        raise NotImplementedError

    def _progress(self, what: str, share: float) -> None:
        raise NotImplementedError

    def _image(self) -> slicer.vtkMRMLVolumeNode:
        """The volume that prompts are about; InputError if there is none."""
        raise NotImplementedError

    def _ask(self, question: Callable[[Session], Future[Prediction] | None]) -> None:
        """Put a question to the current session, now or when it is open."""
        raise NotImplementedError

    def _when_open(self, action: Callable[[SceneSession], Any]) -> None:
        """Do something with the current session, now or when it is open."""
        raise NotImplementedError

    def _stepped(self, done: tuple[str, Any] | None) -> None:
        """Wait for what undo or redo has asked again."""
        raise NotImplementedError
