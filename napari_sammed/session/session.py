"""A session: one image, its objects, and everything that the user did to them, kept on disk, undoable without limit.

The session is its actions and their answers (`napari_sammed.session.history`). Every action is in the journal before
it takes effect, every answer before it is shown. Predictions run beside the caller: `Session.add` returns at once with
a future, and a newer prompt for the same part of the same object supersedes one that is not answered yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from napari_sammed.backend.base import Backend, ClassMap, Prediction, Progress
from napari_sammed.backend.latest import LatestWins
from napari_sammed.backend.slicing import extent_of, in_region, spans_slices
from napari_sammed.errors import InputError
from napari_sammed.geometry import Box
from napari_sammed.intensity import Window
from napari_sammed.prompts import Prompt, Prompts
from napari_sammed.session.actions import Action, Change
from napari_sammed.session.conversation import Step
from napari_sammed.session.history import span_of
from napari_sammed.session.objects import SessionObjects
from napari_sammed.session.routing import AUTO, Routing
from napari_sammed.volume import Volume

__all__ = ["AUTO", "Change", "Session", "Step"]


class Session(SessionObjects):
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

    Attributes
    ----------
    image_id : ImageId
        The backend's name for the image.
    current : int or None
        Label of the object that new prompts belong to.
    model : str
        Registry name for new prompts, or "auto".
    """

    def __init__(
        self,
        image: Volume,
        backend: Backend,
        *,
        journal: Path | None = None,
        source: dict[str, Any] | None = None,
        window: Window | None = None,
    ) -> None:
        super().__init__(image, backend, journal, source)
        self.window = window or Window.auto(image)
        self.model = AUTO
        self._routing = Routing(image.grid, backend, self.history)
        self._classifying = LatestWins("napari-sammed-classes")  # beside the prompts, which go on meanwhile

    @property
    def busy(self) -> bool:
        """Whether an answer is on its way."""
        return super().busy or self._classifying.busy

    # ---- what the user does --------------------------------------------------------------------------------------

    def add(
        self,
        prompt: Prompt,
        *,
        model: str | None = None,
        axis: int | None = None,
        progress: Progress | None = None,
    ) -> Future[Prediction]:
        """Add a prompt to the current object (a new one if there is none) and ask for its mask.

        Parameters
        ----------
        prompt : Prompt
            In index coordinates of the image.
        model : str, optional
            Registry name or "auto"; default `Session.model`.
        axis : int, optional
            For a 2D model on a volume: the axis across the slices (the displayed plane), where the prompt leaves it
            open.
        progress : callable, optional

        Returns
        -------
        Future of Prediction
            Raises what the backend raises; cancelled if a newer prompt makes it needless.

        Raises
        ------
        InputError
            The prompt does not fit the image; nothing has changed then.
        """
        Prompts((prompt,)).check_inside(self.image.grid)
        name = self._routing.model(model or self.model, prompt, self.current)
        place = self._routing.place(name, prompt, axis, self.current)
        if self.current is None:
            self.new_object()
        with self._lock:
            action = self._record(
                do="prompt", label=self.current, prompt=prompt, model=name, window=self.window, **place
            )
        self._notify(action.label, None)
        return self._conversation.ask(action, progress)

    def add_objects(
        self,
        boxes: Sequence[Box],
        names: Sequence[str] = (),
        *,
        model: str | None = None,
        axis: int | None = None,
        progress: Progress | None = None,
    ) -> Future[list[Prediction]]:
        """Start one object a box and ask for all of them in as few passes as the model allows.

        Parameters
        ----------
        boxes : sequence of Box
            At least one.
        names : sequence of str
            Of the objects, in the order of the boxes; empty gives them the usual names.
        model, axis, progress : optional
            As for `add`. The last object is the current one then.

        Returns
        -------
        Future of list of Prediction
            In the order of the boxes, without those that are undone meanwhile. Each object can be undone, corrected and
            deleted on its own.
        """
        if not boxes:
            raise InputError("There is no box to start an object from.")
        if names and len(names) != len(boxes):
            raise InputError(f"{len(boxes)} boxes need as many names, not {len(names)}.")
        Prompts(tuple(boxes)).check_inside(self.image.grid)
        name = self._routing.model(model or self.model, boxes[0], None)
        with self._lock:
            actions = [
                self._record(
                    do="prompt",
                    label=self._new_object(title),
                    prompt=box,
                    model=name,
                    window=self.window,
                    region=self._routing.region(name, box, axis),
                )
                for box, title in zip(boxes, names or [""] * len(boxes), strict=True)
            ]
        self._conversation.notify(tuple(action.label for action in actions), None)
        return self._conversation.ask_together(actions, progress)

    def remove(
        self, number: int, label: int | None = None, *, progress: Progress | None = None
    ) -> Future[Prediction] | None:
        """Take any one of an object's prompts away, as if it had never been given.

        Parameters
        ----------
        number : int
            Its place in `ObjectState.prompts`.
        label : int, optional
            Default: the current object.
        progress : callable, optional

        Returns
        -------
        Future of Prediction, or None
            The answer to the prompts that are left there; None if there is nothing to ask: the mask is already what it
            was without the prompt.
        """
        label = self._object(label).label
        with self._lock:
            target = self._target(label, number)
            before = self.history.mask(label)
            asked = self._routing.after_removal(label, target)
            action = self._record(do="remove", label=label, target=target, **asked)
            after = self.history.mask(label)
        self._drop_given(action)
        self._notify(label, None if action.asks else span_of((before, after)))
        if action.asks:
            return self._conversation.ask(action, progress)
        opened = self._conversation.ask_open([label], progress)
        return opened[-1] if opened else None

    def replace(
        self,
        number: int,
        prompt: Prompt,
        label: int | None = None,
        *,
        axis: int | None = None,
        progress: Progress | None = None,
    ) -> Future[Prediction]:
        """Put another prompt in the place of any one of an object's prompts: moved, reshaped, of the other sign.

        The answer is that to all standing prompts; until it is here the mask stays. Parameters as for `add` and
        `remove`; the model is the one that the object's last prompt there went to.
        """
        label = self._object(label).label
        Prompts((prompt,)).check_inside(self.image.grid)
        with self._lock:
            target = self._target(label, number)
            asked = self._routing.after_replacement(label, target, prompt, axis)
            action = self._record(do="replace", label=label, target=target, prompt=prompt, **asked)
        self._drop_given(action)
        self._notify(label, None)
        return self._conversation.ask(action, progress)

    def choose(self, reading: int, label: int | None = None) -> None:
        """Show another reading of an object's latest, ambiguous answer; the next prompt goes on from it.

        Parameters
        ----------
        reading : int
            Its place in `ObjectState.readings`; 0 is the model's own choice.
        label : int, optional
            Default: the current object.

        Raises
        ------
        InputError
            If there is no such reading.
        """
        state = self._object(label)
        count = max(len(state.readings), 1)
        if not 0 <= reading < count:
            few = "only one reading" if count == 1 else f"{count} readings, 0 to {count - 1}"
            raise InputError(f"The latest answer about {state.name} has {few}: there is no reading {reading}.")
        if reading == state.reading:
            return
        with self._lock:
            action, _ = self.history.latest(state.label)
            target = action.target if action.do == "choose" else action.id
            before = self.history.mask(state.label)
            self._record(do="choose", label=state.label, target=target, reading=reading)
            after = self.history.mask(state.label)
        self._notify(state.label, span_of((before, after)))

    def next_reading(self, step: int = 1, label: int | None = None) -> int:
        """Show the next reading (the one before with ``step=-1``), round and round; returns which one it is."""
        state = self._object(label)
        if len(state.readings) < 2:
            raise InputError(f"The latest answer about {state.name} has only one reading: there is no other to show.")
        reading = (state.reading + step) % len(state.readings)
        self.choose(reading, state.label)
        return reading

    def propagate(
        self, *, axis: int | None = None, model: str | None = None, progress: Progress | None = None
    ) -> Future[Prediction]:
        """Carry the current object from the slices where it was prompted through the stack, both ways.

        Parameters
        ----------
        axis : int, optional
            Across the slices; default: that of the object's last prompt, else the image's default.
        model : str, optional
            A 2D model; default: the object's last one, else the default for boxes.
        progress : callable, optional
        """
        if self.image.grid.ndim != 3:
            raise InputError("Only a volume has slices to propagate through; this image is flat.")
        state = self._object(None)
        regions = [p for p in state.prompts if spans_slices(p, 0) and not extent_of(p).thin_axes]
        limits = regions[-1].intersect(self.image.grid.box) if regions else None
        if axis is None:
            axis = self._routing.last_axis(state.label)
        name = self._routing.planar_model(model, state.label)
        if state.mask is None:
            raise InputError(f"{state.name} has no mask yet to propagate: click, draw a box or paint first.")
        with self._lock:
            action = self._record(
                do="propagate", label=state.label, model=name, window=self.window, region=limits, axis=axis
            )
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
        state = self._object(None)
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
        """Stop everything that is on its way; the prompts stay and are answered with the next one."""
        self._conversation.cancel()
        self._classifying.cancel()

    def resume(self, progress: Progress | None = None) -> list[Future[Prediction]]:
        """Ask again for standing prompts that have no answer yet (after a restart, a cancel or an error)."""
        return self._conversation.ask_open(list(self.objects), progress)

    def close(self) -> None:
        """Stop what is running, close the journal, let the backend forget the image."""
        self._classifying.close()
        super().close()

    # ---- inside --------------------------------------------------------------------------------------------------

    def _target(self, label: int, number: int) -> int:
        """The action that gave a prompt, by the prompt's place among the standing ones."""
        standing = list(self.history.standing(label))
        if not 0 <= number < len(standing):
            raise InputError(f"There is no prompt {number}: the object has {len(standing)} (the first one is 0).")
        return standing[number]

    def _drop_given(self, removal: Action) -> None:
        """Stop asking for a prompt that is removed or replaced, unless the new question supersedes it anyway."""
        with self._lock:
            given = self.history.given(removal.target)
        for question in given:
            if question.key != removal.key:
                self._conversation.drop(question)
