"""The prompts of a session: given, removed, replaced, and the readings of their answers."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from napari_sammed.backend.base import Backend, Prediction, Progress
from napari_sammed.backend.masks import changed
from napari_sammed.errors import InputError
from napari_sammed.geometry import Box
from napari_sammed.intensity import Window
from napari_sammed.prompts import Point, Prompt, Prompts
from napari_sammed.session.actions import Action
from napari_sammed.session.arranging import SessionArranging
from napari_sammed.session.history import span_of
from napari_sammed.session.neighbours import Beside, beside
from napari_sammed.session.roster import Overlap
from napari_sammed.session.routing import AUTO, Routing
from napari_sammed.volume import Volume


class SessionPrompts(SessionArranging):
    """What users say of a session's objects; see `napari_sammed.session.session.Session`."""

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
        super().__init__(image, backend, journal, source, overlap, read_only)
        self.window = window or Window.auto(image)
        self.model = AUTO
        self.neighbours = False
        self._routing = Routing(image.grid, backend, self.history, whole=image.in_memory)

    def look_at(self, view: Box | None) -> None:
        """Say which part of the image the user sees: of a large one, models look at that part for prompts to come.

        Parameters
        ----------
        view : Box or None
            In index coordinates, of a volume one voxel thick; None leaves it to the prompts.
        """
        self._routing.view = view

    def part_of(self, model: str, slab: Box) -> Box:
        """What of a slice a prompt in the middle of the view would be answered in; of a small image all of it."""
        if self.image.in_memory:
            return slab
        view = self._routing.view or slab
        middle = [(low + high - 1) // 2 for low, high in zip(view.low, view.high, strict=True)]
        for axis in slab.thin_axes:
            middle[axis] = slab.low[axis]
        return self._routing.part(model, Point(tuple(middle)), slab, self.current)

    def add(
        self,
        prompt: Prompt,
        *,
        model: str | None = None,
        axis: int | None = None,
        progress: Progress | None = None,
    ) -> Future[Prediction]:
        """Add a prompt to the current object (a new one if there is none) and ask for its mask.

        A stroke with a radius is kept as it was painted, at once and whatever is answered to it and later prompts; the
        model refines the rest. It gives way where a later stroke or an edit by hand contradicts it, and to a later
        click of the other sign inside of it.

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
        asked = self._asked(prompt, model, axis)
        if self.current is None:
            self.new_object()
        with self._lock:
            before = self.history.mask(self.current)
            action = self._record(label=self.current, **asked)
            box = changed(before, self.history.mask(self.current))
        self._notify(action.label, box)
        return self._conversation.ask(action, progress)

    def _asked(self, prompt: Prompt, model: str | None, axis: int | None) -> dict[str, Any]:
        """What a further prompt of the current object asks, but for its label; InputError for one that cannot be."""
        Prompts((prompt,)).check_inside(self.image.grid)
        if self.current is not None:
            self._changeable(self.current)
        name = self._routing.model(model or self.model, prompt, self.current)
        place = self._routing.place(name, prompt, axis, self.current)
        return {"do": "prompt", "prompt": prompt, "model": name, "window": self.window, **place}

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
                    beside=(),
                    **self._routing.place(name, box, axis, None),
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
        label = self._changeable(label).label
        with self._lock:
            target = self._target(label, number)
            before = self.history.mask(label)
            asked = self._routing.after_removal(label, target)
            action = self._record(do="remove", label=label, target=target, **asked)
            box = changed(before, self.history.mask(label))
        self._drop_given(action)
        self._notify(label, box)
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

        The answer is that to all standing prompts; until it is here the mask stays, but for what a brush or an eraser
        decides. Parameters as for `add` and
        `remove`; the model is the one that the object's last prompt there went to.
        """
        label = self._changeable(label).label
        Prompts((prompt,)).check_inside(self.image.grid)
        with self._lock:
            target = self._target(label, number)
            before = self.history.mask(label)
            asked = self._routing.after_replacement(label, target, prompt, axis)
            action = self._record(do="replace", label=label, target=target, prompt=prompt, **asked)
            box = changed(before, self.history.mask(label))
        self._drop_given(action)
        self._notify(label, box)
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
        state = self._changeable(label)
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

    def _record(self, **what: Any) -> Action:
        """A new action; a question takes along what the finished neighbours say."""
        return super()._record(**self._informed(**what))

    def _informed(self, **what: Any) -> dict[str, Any]:
        """What is recorded for an action, or would be, with what the finished neighbours say to a question."""
        asks = what.get("model") and what["do"] in ("prompt", "replace", "remove", "adopt")
        if self.neighbours and asks and "beside" not in what:
            what["beside"] = self._beside(Action(self.history.next_id, **what))
        return what

    def _beside(self, asked: Action) -> Beside:
        """Points in the finished neighbours; none for closer looks, nor for networks of boxes.

        Of 24 organs clicked with LiteMedSAM, whose ladder of boxes is then barred from boxes that hold such a point,
        none came out better and a liver was lost (tests/benchmarks/neighbours.py).
        """
        card = self.backend.card(asked.model)
        if asked.zoom or "point" not in card.prompts:
            return ()
        question = self.history.supposing(asked).question(asked)
        planar = 3 not in card.dimensions
        return beside(question, asked.region, self.history.objects.values(), asked.label, self.image.grid, planar)

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
