"""A session: one image, its objects, and everything that the user did to them, kept on disk, undoable without limit.

The session is its actions and their answers (`napari_sammed.history`). Every action is in the journal before it takes
effect, every answer before it is shown. Predictions run beside the caller: `Session.add` returns at once with a
future, and a newer prompt for the same part of the same object supersedes one that is not answered yet. Importing
this file imports no torch.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np

from napari_sammed.backend.base import Backend, Prediction, Progress
from napari_sammed.backend.latest import LatestWins
from napari_sammed.backend.slicing import extent_of, slice_region, spans_slices
from napari_sammed.errors import Cancelled, InputError
from napari_sammed.geometry import Box
from napari_sammed.history import Action, Change, History, ObjectState, span_of
from napari_sammed.intensity import Window
from napari_sammed.journal import Journal
from napari_sammed.models.registry import default_for
from napari_sammed.prompts import Prompt, Prompts
from napari_sammed.records import BY_HAND, action_to_json, answer_to_json, ask, refill
from napari_sammed.volume import Volume, write_mask

AUTO = "auto"
"""As a model's name: let the session choose by image and prompt."""


class Session:
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
        self.image = image
        self.backend = backend
        self.window = window or Window.auto(image)
        self.model = AUTO
        self.current: int | None = None
        self.history = History()
        self.image_id = backend.open(image)
        self._listeners: list[Callable[[Change], None]] = []
        self._lock = threading.RLock()
        self._requests = LatestWins("napari-sammed-session")
        self._journal: Journal | None = None
        if journal is not None:
            header = {"image": image.hash, "shape": list(image.grid.shape), "source": source or {}}
            self._journal = Journal(journal, header)
            refill(self.history, self._journal.entries)
            self.current = next(reversed(self.history.objects), None)

    # ---- what there is -------------------------------------------------------------------------------------------

    @property
    def objects(self) -> dict[int, ObjectState]:
        """Objects by label, in the order of their making."""
        with self._lock:
            return self.history.objects

    @property
    def busy(self) -> bool:
        """Whether an answer is on its way."""
        return self._requests.busy

    def labels(self, box: Box | None = None) -> np.ndarray:
        """The label image (uint16) of all objects inside a box of the image; the later of overlapping ones shows."""
        with self._lock:
            return self.history.labels(box or self.image.grid.box)

    def on_change(self, listener: Callable[[Change], None]) -> None:
        """Call ``listener`` after every change, on whichever thread makes it."""
        self._listeners.append(listener)

    # ---- what the user does --------------------------------------------------------------------------------------

    def new_object(self, name: str = "") -> int:
        """Start another object and make it the current one; returns its label."""
        with self._lock:
            used = {a.label for a in (*self.history.done, *self.history.undone)}
            label = max(used, default=0) + 1
            self._record(do="object", label=label, name=name or f"Object {label}")
            self.current = label
        self._notify((label,), None)
        return label

    def select(self, label: int) -> None:
        """Make an object the current one."""
        self._object(label)
        self.current = label

    def rename(self, label: int, name: str) -> None:
        """Give an object another name."""
        self._object(label)
        with self._lock:
            self._record(do="rename", label=label, name=name)
        self._notify((label,), None)

    def delete(self, label: int) -> None:
        """Remove an object; undo brings it back."""
        extent = self._extent(label)
        with self._lock:
            self._record(do="delete", label=label)
            if self.current == label:
                self.current = next(reversed(self.history.objects), None)
        self._notify((label,), extent)

    def clear(self, label: int | None = None) -> None:
        """Drop an object's prompts and mask (default: the current one's); undo brings them back."""
        label = self._object(label).label
        extent = self._extent(label)
        with self._lock:
            action = self._record(do="clear", label=label)
            self._keep(action, Prediction.empty(self.image.grid.box, score=math.nan, model=BY_HAND))
        self._notify((label,), extent)

    def edit(self, mask: np.ndarray, box: Box, label: int | None = None) -> None:
        """Replace an object's mask inside ``box`` by one that the user painted (boolean, of the box's shape)."""
        label = self._object(label).label
        if mask.shape != box.shape or mask.dtype != bool:
            raise InputError(f"An edit of {box.shape} voxels needs a boolean mask, not {mask.dtype} of {mask.shape}.")
        with self._lock:
            action = self._record(do="edit", label=label, region=box)
            self._keep(action, Prediction.tight(mask, box, score=math.nan, model=BY_HAND))
        self._notify((label,), box)

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
        name = self._choose(model or self.model, prompt)
        region = self._region(name, prompt, axis)
        if self.current is None:
            self.new_object()
        with self._lock:
            action = self._record(
                do="prompt", label=self.current, prompt=prompt, model=name, window=self.window, region=region
            )
        self._notify((action.label,), None)
        return self._request(action, progress)

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
            axis = self._last_axis(state.label)
        name = model or self._last_model(state.label, planar=True)
        if state.mask is None:
            raise InputError(f"{state.name} has no mask yet to propagate: click, draw a box or paint first.")
        with self._lock:
            action = self._record(
                do="propagate", label=state.label, model=name, window=self.window, region=limits, axis=axis
            )
        self._notify((state.label,), None)
        return self._request(action, progress)

    def undo(self) -> Action | None:
        """Take the latest action back; None if nothing is left."""
        return self._step(self.history.undo, "undo")

    def redo(self) -> Action | None:
        """Do again what was taken back last; None if there is nothing."""
        return self._step(self.history.redo, "redo")

    def cancel(self) -> None:
        """Stop everything that is on its way; the prompts stay and are answered with the next one."""
        self._requests.cancel()

    def resume(self, progress: Progress | None = None) -> list[Future[Prediction]]:
        """Ask again for standing prompts that have no answer yet (after a restart, a cancel or an error)."""
        with self._lock:
            open_actions = self._unanswered(self.history.objects)
        return [self._request(action, progress) for action in open_actions]

    # ---- keeping it ----------------------------------------------------------------------------------------------

    def save(self, path: Path) -> None:
        """Write the label image on the image's own grid; the file name's ending says the format."""
        write_mask(self.labels(), self.image.grid, path)

    def close(self) -> None:
        """Stop what is running, close the journal, let the backend forget the image."""
        self._requests.close()
        if self._journal is not None:
            self._journal.close()
        self.backend.close(self.image_id)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- inside --------------------------------------------------------------------------------------------------

    def _object(self, label: int | None) -> ObjectState:
        label = self.current if label is None else label
        objects = self.objects
        if label is None or label not in objects:
            known = ", ".join(map(str, objects)) or "none"
            raise InputError(f"There is no object {label} (there are: {known}).")
        return objects[label]

    def _extent(self, label: int) -> Box | None:
        mask = self._object(label).mask
        return None if mask is None else mask.extent

    def _choose(self, name: str, prompt: Prompt) -> str:
        """The registry name for a prompt; "auto" stays with the object's last model."""
        if name != AUTO:
            return self.backend.card(name).name
        last = None if self.current is None else self._last_prompt(self.current)
        return last.model if last is not None else default_for(self.image.grid.ndim, prompt)

    def _region(self, name: str, prompt: Prompt, axis: int | None) -> Box | None:
        """The slice that a 2D model is asked about; None for 3D models, flat images and boxes over several slices."""
        if self.image.grid.ndim == 2 or 3 in self.backend.card(name).dimensions:
            return None
        region = slice_region(self.image.grid, prompt, axis)
        across = region.thin_axes[0] if axis is None else axis
        return None if spans_slices(prompt, across) else region

    def _last_prompt(self, label: int) -> Action | None:
        with self._lock:
            return next((a for a in reversed(self.history.done) if a.label == label and a.do == "prompt"), None)

    def _last_model(self, label: int, planar: bool) -> str:
        last = self._last_prompt(label)
        if last is not None and (not planar or 2 in self.backend.card(last.model).dimensions):
            return last.model
        return default_for(2, self.image.grid.box)

    def _last_axis(self, label: int) -> int:
        last = self._last_prompt(label)
        if last is not None and last.region is not None and len(last.region.thin_axes) == 1:
            return last.region.thin_axes[0]
        prompt = self.image.grid.box if last is None or last.prompt is None else last.prompt
        return slice_region(self.image.grid, prompt).thin_axes[0]

    def _record(self, **what: Any) -> Action:
        action = Action(self.history.next_id, **what)
        self._write(action)
        return action

    def _write(self, action: Action) -> None:
        """Journal first: what cannot be written down does not happen."""
        if self._journal is not None:
            asked = action.do in ("prompt", "propagate")  # then `_request` waits for the disk, beside the caller
            self._journal.append(action_to_json(action), wait=not asked)
        self.history.push(action)

    def _keep(self, action: Action, answer: Prediction, entry: dict[str, Any] | None = None) -> None:
        """Write an answer down, then let it count."""
        if self._journal is not None:
            self._journal.append(entry or answer_to_json(action.id, answer, None))
        self.history.answer(action.id, answer)

    def _step(self, step: Callable[[], Action | None], name: str) -> Action | None:
        with self._lock:
            before = self.history.objects
            stack = self.history.done if name == "undo" else self.history.undone
            if not stack:
                return None
            if self._journal is not None:
                self._journal.append({"do": name})
            action = step()
            after = self.history.objects
            if self.current not in after:
                self.current = next(reversed(after), None)
            elif action is not None and action.label in after:
                self.current = action.label
            if name == "undo":
                self._requests.cancel(_key(action))
            open_actions = self._unanswered({action.label: after[action.label]} if action.label in after else {})
        box = span_of(state.mask for o in (before, after) if (state := o.get(action.label)) is not None)
        self._notify((action.label,), box)
        for open_action in open_actions:
            self._request(open_action, None)
        return action

    def _unanswered(self, objects: dict[int, ObjectState]) -> list[Action]:
        """The latest standing action of each key that has no answer."""
        latest: dict[tuple[Any, ...], Action] = {}
        for action in self.history.done:
            if action.label in objects and action.do in ("prompt", "propagate"):
                latest[_key(action)] = action
            elif action.do == "clear":
                latest = {key: a for key, a in latest.items() if a.label != action.label}
        return [a for a in latest.values() if a.id not in self.history.answers]

    def _request(self, action: Action, progress: Progress | None) -> Future[Prediction]:
        def work(cancel: threading.Event) -> Prediction:
            try:
                if self._journal is not None:
                    self._journal.sync()
                answer, previous = ask(self.backend, self.image_id, self.history, self._lock, action, cancel, progress)
                entry = answer_to_json(action.id, answer, previous)  # packs the mask, before the lock
                with self._lock:
                    changed = self._arrived(action, answer, entry, cancel)
            except BaseException as error:
                self._notify((action.label,), None)
                if cancel.is_set():  # whatever went wrong, the question no longer stands (undone: it has no prompts)
                    raise Cancelled from error
                raise
            self._notify((action.label,), changed)
            return answer

        return self._requests.submit(_key(action), work)

    def _arrived(self, action: Action, answer: Prediction, entry: dict[str, Any], cancel: threading.Event) -> Box:
        """Keep an answer and say where it changed something; Cancelled, and nothing kept, if it came too late."""
        if cancel.is_set() or not any(a.id == action.id for a in self.history.done):
            raise Cancelled
        before = self.history.mask(action.label)
        self._keep(action, answer, entry)
        touched = None if before is None else before.extent.intersect(answer.scope)
        return answer.box if touched is None else answer.box.union(touched)

    def _notify(self, labels: tuple[int, ...], box: Box | None) -> None:
        for listener in self._listeners:
            listener(Change(labels, box))


def _key(action: Action) -> tuple[Any, ...]:
    """Requests of one key answer the same question about an object, so that the newest makes the others needless."""
    return (action.do, action.label, action.model, action.region)
