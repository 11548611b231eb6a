"""A session: one image, its objects, and everything that the user did to them, kept on disk, undoable without limit.

The session is its actions and their answers (`napari_sammed.session.history`). Every action is in the journal before
it takes effect, every answer before it is shown. Predictions run beside the caller: `Session.add` returns at once with
a future, and a newer prompt for the same part of the same object supersedes one that is not answered yet.
"""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path
from typing import Any

from napari_sammed.backend.base import Backend, ClassMap, Prediction, Progress
from napari_sammed.backend.doubt import Suggestion
from napari_sammed.backend.latest import LatestWins
from napari_sammed.backend.slice_quality import SliceQuality
from napari_sammed.backend.slicing import extent_of, in_region, spans_slices
from napari_sammed.errors import InputError
from napari_sammed.geometry import Box
from napari_sammed.intensity import Window
from napari_sammed.prompts import Prompt, Prompts
from napari_sammed.session.actions import Action, Change
from napari_sammed.session.comparing import Comparison, SessionComparing
from napari_sammed.session.conversation import Step
from napari_sammed.session.roster import Overlap
from napari_sammed.session.routing import AUTO
from napari_sammed.session.slices import Part, ranges, slices_of
from napari_sammed.session.suggesting import Suggester
from napari_sammed.volume import Volume

__all__ = ["AUTO", "Change", "Comparison", "Session", "Step"]


class Session(SessionComparing):
    """One image and its objects.

    Parameters
    ----------
    image : Volume
    backend : Backend
    journal : Path, optional
        File that keeps everything; an existing one of this image is continued. None keeps nothing.
    source : dict, optional
        How the image was read (path, frame, series), so that `replay` can read it again; goes into a new journal.
    window : Window, optional
        Grey-value mapping for the predictions to come; default `Window.auto`.
    overlap : str
        The overlap rule that a new journal begins with; see `overlap`.
    read_only : bool
        Only look at the journal, which another program may be working on; whatever is done is refused.

    Attributes
    ----------
    image_id : ImageId
        The backend's name for the image.
    current : int or None
        Label of the object that new prompts belong to.
    model : str
        Registry name for new prompts, or "auto".
    neighbours : bool
        Whether finished (locked) objects near the prompts of another one tell the model that they are not part of it.
    """

    def __init__(
        self,
        image: Volume,
        backend: Backend,
        *,
        journal: Path | None = None,
        source: dict[str, Any] | None = None,
        window: Window | None = None,
        overlap: Overlap = "replace",
        read_only: bool = False,
    ) -> None:
        super().__init__(
            image, backend, journal=journal, source=source, window=window, overlap=overlap, read_only=read_only
        )
        self._suggester = Suggester(
            image.grid,
            self.history,
            self._lock,
            lambda: self.growth,
            self._conversation.recalled,
            backend.restore,
        )
        self._classifying = LatestWins("napari-sammed-classes")  # beside the prompts, which go on meanwhile

    @property
    def busy(self) -> bool:
        """Whether an answer is on its way."""
        return super().busy or self._classifying.busy

    def propagate(
        self,
        *,
        axis: int | None = None,
        model: str | None = None,
        part: Part = "all",
        progress: Progress | None = None,
    ) -> Future[Prediction]:
        """Carry the current object from the slices where it was prompted through the stack.

        `cancel` ends it with the slices that were reached until then; undo takes all of them back.

        Parameters
        ----------
        axis : int, optional
            Across the slices; default: that of the object's last prompt, else the image's default.
        model : str, optional
            A 2D model; default: the object's last one, else the default for boxes.
        part : {"all", "changed", "up", "down"}
            Which slices to go to; the others stay exactly as they are. "changed": those whose nearest marked slice is
            another one, or looks otherwise, than when they were last answered, and those that were not reached then.
            "up" and "down": those of higher or lower index than the slice that was marked last.
        progress : callable, optional

        Raises
        ------
        InputError
            If there is no mask or no such slice, or if nothing has changed.
        """
        if self.image.grid.ndim != 3:
            raise InputError("Only a volume has slices to propagate through; this image is flat.")
        state = self._changeable(None)
        regions = [p for p in state.prompts if spans_slices(p, 0) and not extent_of(p).thin_axes]
        limits = regions[-1].intersect(self.image.grid.box) if regions else None
        if axis is None:
            axis = self._routing.last_axis(state.label)
        name = self._routing.planar_model(model, state.label)
        if state.mask is None:
            raise InputError(f"{state.name} has no mask yet to propagate: click, draw a box or paint first.")
        asked = {"label": state.label, "model": name, "window": self.window, "region": limits, "axis": axis}
        with self._lock:
            fresh = Action(self.history.next_id, "propagate", **asked)
            wanted = slices_of(self.history, state.label, axis, part, fresh, self.image.grid.box)
            action = self._record(do="propagate", **asked, slices=ranges(wanted))
        self._notify(state.label, None)
        return self._conversation.ask(action, progress)

    def refine(
        self,
        box: Box | None = None,
        *,
        model: str | None = None,
        axis: int | None = None,
        progress: Progress | None = None,
    ) -> Future[Prediction]:
        """Look closer at a part of the current object, at the finest grid that the model's input allows.

        The mask as it is is the coarse answer; nothing outside of the part changes. Prompts that come next, inside of
        it, are answered as closely; plain answers to prompts elsewhere leave it as it is.

        Parameters
        ----------
        box : Box, optional
            The part; default: around the mask.
        model : str, optional
            Registry name or "auto"; default `Session.model`.
        axis : int, optional
            For a 2D model on a volume: across the slices, each of which is looked at; default: that of the object's
            last prompt.
        progress : callable, optional

        Raises
        ------
        InputError
            If there is nothing of the object in the part yet, or if it lies outside of the image.
        """
        state = self._changeable(None)
        if box is not None:
            Prompts((box,)).check_inside(self.image.grid)
        name = self._routing.model(model or self.model, box or self.image.grid.box, state.label)
        region = (box or self._routing.around(state.label, name)).intersect(self.image.grid.box)
        known = Prompts((*state.prompts, *([] if state.mask is None else [state.mask])))
        if not any(getattr(item, "positive", True) for item in in_region(known, region)):
            raise InputError(
                f"Nothing of {state.name} lies between {region.low} and {region.high} yet: click or draw a box there "
                "first, or choose another part."
            )
        if axis is None and self.image.grid.ndim == 3:
            axis = self._routing.last_axis(state.label)
        with self._lock:
            action = self._record(
                do="refine", label=state.label, model=name, window=self.window, region=region, axis=axis, zoom=True
            )
        self._notify(state.label, None)
        return self._conversation.ask(action, progress)

    def slice_quality(self, axis: int, label: int | None = None) -> tuple[SliceQuality, ...]:
        """How far each slice of an object (default: the current one) across an axis can be trusted, first to last.

        Reads every voxel around the object: not for a thread that must not wait.
        """
        return self._suggester.slices(self._object(label).label, axis)

    def where_next(self, axis: int | None = None) -> Future[Suggestion | None]:
        """The place where the current object is most in doubt; None if nothing stands out.

        Parameters
        ----------
        axis : int, optional
            Across the slices that it was propagated through; default: that of its last prompt.
        """
        label = self._object(None).label
        if axis is None and self.image.grid.ndim == 3:
            axis = self._routing.last_axis(label)
        return self._classifying.submit("where next", lambda cancel: self._suggester.suggest(label, axis))

    def model_for(self, prompt: Prompt, model: str | None = None) -> str:
        """The registry name of the model that a prompt of the current object would go to."""
        return self._routing.model(model or self.model, prompt, self.current)

    def around(self, model: str | None = None) -> Box:
        """Where `refine` looks if nobody says where: around the current object, with a margin.

        Raises
        ------
        InputError
            If there is nothing of the object yet.
        """
        state = self._object(None)
        return self._routing.around(state.label, self.model_for(self.image.grid.box, model))

    def automatic(
        self,
        model: str,
        *,
        region: Box | None = None,
        window: Window | None = None,
        progress: Progress | None = None,
    ) -> Future[ClassMap]:
        """Have a model without prompts give every voxel a class; changes nothing until a class is taken over.

        Parameters
        ----------
        model : str
            Registry name.
        region : Box, optional
            Only this part of the image.
        window : Window, optional
            Default: the one that the model was trained with.
        progress : callable, optional
        """
        name = self.backend.card(model).name
        return self._classifying.submit(
            name,
            lambda cancel: self.backend.automatic(
                self.image_id, name, window=window, region=region, cancel=cancel, progress=progress
            ),
        )

    def take_over(self, classes: ClassMap, name: str) -> int:
        """Make one class a new, current object, to be corrected with any promptable model; returns its label."""
        return self.take(classes.mask(name), name, source=classes.model, weights_hash=classes.weights_hash)

    def cancel(self) -> None:
        """Stop everything that is on its way; the prompts stay and are answered with the next one.

        A propagation keeps the slices that it has reached.
        """
        self._conversation.cancel()
        self._classifying.cancel()
        self.cancel_comparison()
        self.cancel_preview()

    def resume(self, progress: Progress | None = None) -> list[Future[Prediction]]:
        """Ask again for standing prompts that have no answer yet (after a restart, a cancel or an error)."""
        self._previews.cancel()
        return self._conversation.ask_open(list(self.objects), progress)

    def close(self) -> None:
        """Stop what is running, close the journal, let the backend forget the image."""
        self._classifying.close()
        super().close()
