"""The objects of a session as far as no model is needed: made, named, painted, taken over, deleted, undone, saved."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Self

import numpy as np

from napari_sammed.backend.base import Backend, Prediction
from napari_sammed.backend.masks import voxels_in
from napari_sammed.errors import InputError
from napari_sammed.geometry import Box
from napari_sammed.prompts import MaskPrompt, Prompts
from napari_sammed.session.actions import Action, Change, ObjectState
from napari_sammed.session.conversation import Conversation, Step
from napari_sammed.session.growth import Growth
from napari_sammed.session.history import History
from napari_sammed.session.journal import ReadOnlyJournal
from napari_sammed.session.records import BY_HAND
from napari_sammed.session.roster import Overlap
from napari_sammed.session.saving import prepared
from napari_sammed.volume import Volume


class SessionObjects:
    """The objects of one image and their journal; `napari_sammed.session.Session` adds the prompts.

    Parameters and attributes are those of the session.
    """

    def __init__(
        self,
        image: Volume,
        backend: Backend,
        journal: Path | None,
        source: dict[str, Any] | None,
        overlap: Overlap = "replace",
        read_only: bool = False,
    ) -> None:
        self.image = image
        self.backend = backend
        self.image_id = backend.open(image)
        header = {"image": image.hash, "shape": list(image.grid.shape), "source": source or {}}
        if overlap != "replace":
            header["overlap"] = overlap
        try:
            self._conversation = Conversation(backend, self.image_id, journal, header, read_only)
        except BaseException:
            backend.close(self.image_id)
            raise
        self._lock = self._conversation.lock
        self.current: int | None = next(reversed(self.history.objects), None)

    # ---- what there is -------------------------------------------------------------------------------------------

    @property
    def history(self) -> History:
        """Actions and answers; to be read only."""
        return self._conversation.history

    @property
    def reading(self) -> AbstractContextManager[Any]:
        """To be entered while the history is read in several steps."""
        return self._lock

    @property
    def journal(self) -> Path | None:
        """The file that keeps everything; None if nothing does."""
        kept = self._conversation.journal
        return None if kept is None else kept.path

    @property
    def objects(self) -> dict[int, ObjectState]:
        """Objects by label, in their order: that of their making unless they were moved."""
        with self._lock:
            return self.history.objects

    @property
    def claimed(self) -> dict[int, ObjectState]:
        """As `objects`, but with voxels that are withheld from an object until the user decides whose they are."""
        with self._lock:
            return self.history.claimed

    @property
    def busy(self) -> bool:
        """Whether an answer is on its way."""
        return self._conversation.busy

    def labels(self, box: Box | None = None, steps: Sequence[int] | None = None) -> np.ndarray:
        """The label image (uint16) of all objects inside a box of the image; the topmost of overlapping ones shows.

        While a propagation runs and somebody watches, with the slices that it has reached.

        Parameters
        ----------
        box : Box, optional
            Default: the whole image.
        steps : sequence of int, optional
            Along each axis every so many-th voxel only, from the box's first one on.
        """
        return self._conversation.labels(box or self.image.grid.box, steps)

    @property
    def growth(self) -> Growth | None:
        """What a running propagation has reached so far, if somebody watches; to be read only."""
        return self._conversation.growth

    def on_change(self, listener: Callable[[Change], None], *, growing: bool = False) -> Callable[[], None]:
        """Call ``listener`` after every change, on whichever thread makes it, until the returned function is called.

        With `growing` also when a running propagation has reached a slice, which only `labels` and `growth` show yet.
        """
        return self._conversation.listen(listener, growing)

    # ---- what the user does --------------------------------------------------------------------------------------

    def new_object(self, name: str = "") -> int:
        """Start another object and make it the current one; returns its label."""
        with self._lock:
            label = self._new_object(name)
        self._notify(label, None)
        return label

    def select(self, label: int) -> None:
        """Make an object the current one."""
        self.current = self._object(label).label

    def rename(self, label: int, name: str) -> None:
        """Give an object another name."""
        self._object(label)
        with self._lock:
            self._record(do="rename", label=label, name=name)
        self._notify(label, None)

    def delete(self, label: int) -> None:
        """Remove an object; undo brings it back. InputError for a locked one, as of all that changes voxels."""
        mask = self._changeable(label).mask
        extent = None if mask is None else mask.extent
        with self._lock:
            self._record(do="delete", label=label)
            if self.current == label:
                self.current = next(reversed(self.history.objects), None)
        self._notify(label, extent)

    def clear(self, label: int | None = None) -> None:
        """Drop an object's prompts and mask (default: the current one's); undo brings them back."""
        label = self._changeable(label).label
        extent = self._extent(label)
        with self._lock:
            action = self._record(do="clear", label=label)
            nothing = Prediction.empty(self.image.grid.box, score=math.nan, model=BY_HAND)
            self._conversation.keep(action, nothing)
        self._notify(label, extent)

    def edit(self, mask: np.ndarray, box: Box, label: int | None = None, *, held: bool = False) -> None:
        """Replace an object's mask inside a box by one that the user painted.

        Parameters
        ----------
        mask : ndarray of bool
            Of the box's shape.
        box : Box
        label : int, optional
            Default: the current object.
        held : bool
            Whether the voxels that change stay as painted, whatever models answer later, as those of a brush do.
        """
        label = self._changeable(label).label
        if mask.shape != box.shape or mask.dtype != bool:
            raise InputError(f"An edit of {box.shape} voxels needs a boolean mask, not {mask.dtype} of {mask.shape}.")
        with self._lock:
            changed = mask ^ voxels_in(self.history.mask(label), box) if held else np.zeros(box.shape, bool)
            part = MaskPrompt(changed, box.low) if changed.any() else None
            action = self._record(do="edit", label=label, region=box, part=part)
            self._conversation.keep(action, Prediction.tight(mask, box, score=math.nan, model=BY_HAND))
        self._notify(label, box)

    def take(
        self,
        mask: MaskPrompt,
        name: str = "",
        *,
        source: str = BY_HAND,
        weights_hash: str = "",
        label: int | None = None,
    ) -> int:
        """Make a mask from elsewhere a new, current object; returns its label.

        Clicks on it go to the model together with the mask: SAM and SAM-Med2D refine it, networks of boxes go on from
        its bounding box, and for models that take neither (the random walker) what the clicks mark is added to it or
        taken away. A box or mask prompt starts afresh where it is.

        Parameters
        ----------
        mask : MaskPrompt
        name : str
        source, weights_hash : str
            What made it, for the record.
        label : int, optional
            For it, unless an object of this session ever had it; a free one without.
        """
        Prompts((mask,)).check_inside(self.image.grid)
        with self._lock:
            label = self._free_label(label)
            action = self._record(do="take", label=label, name=name or f"Object {label}")
            self.current = label
            whole = self.image.grid.box
            answer = Prediction(mask.mask, mask.extent, whole, math.nan, source, weights_hash)
            self._conversation.keep(action, answer)
        self._notify(label, mask.extent)
        return label

    def undo(self) -> Step | None:
        """Take the latest action back; None if nothing is left."""
        return self._step("undo")

    def redo(self) -> Step | None:
        """Do again what was taken back last; None if there is nothing."""
        return self._step("redo")

    # ---- keeping it ----------------------------------------------------------------------------------------------

    def save(self, path: Path) -> None:
        """Write all objects on the image's own grid; the file name's ending says the format: see `prepared`."""
        with self._lock:
            write = prepared(self.history, self.image, Path(path))
        write()

    @property
    def read_only(self) -> bool:
        """Whether whatever is done is refused."""
        return isinstance(self._conversation.journal, ReadOnlyJournal)

    @property
    def source(self) -> dict[str, Any]:
        """How the image was read, as the journal says; empty if nobody said."""
        kept = self._conversation.journal
        return {} if kept is None else kept.header.get("source") or {}

    @property
    def revision(self) -> tuple[int, ...]:
        """Two equal ones mean the same objects: changes with every action and answer, and comes back with undo."""
        with self._lock:
            done = self.history.done
            return (len(done), done[-1].id if done else -1, len(self.history.answers))

    def save_session(self, path: Path) -> None:
        """Copy the journal so far to a session file, which others can open and `replay`; this session goes on.

        Raises
        ------
        InputError
            If the session has no journal, or the file cannot be written.
        """
        kept = self._conversation.journal
        if kept is None:
            raise InputError("This session is kept in no file, so there is nothing to copy: give it a journal.")
        with self._lock:
            kept.copy(Path(path))

    def close(self) -> None:
        """Stop what is running, close the journal, let the backend forget the image."""
        self._conversation.close()
        self.backend.close(self.image_id)

    def __enter__(self) -> Self:
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

    def _changeable(self, label: int | None) -> ObjectState:
        """An object that is not locked; InputError if it is."""
        state = self._object(label)
        if state.locked:
            raise InputError(f"{state.name} is locked: unlock it to change it, or start a new object.")
        return state

    def _extent(self, label: int) -> Box | None:
        mask = self._object(label).mask
        return None if mask is None else mask.extent

    def _new_object(self, name: str) -> int:
        label = self._free_label()
        self._record(do="object", label=label, name=name or f"Object {label}")
        self.current = label
        return label

    def _free_label(self, wanted: int | None = None) -> int:
        """One that no object ever had, undone ones included; the one that is wanted, if it is free."""
        used = {action.label for action in (*self.history.done, *self.history.undone)}
        return wanted if wanted is not None and wanted > 0 and wanted not in used else max(used, default=0) + 1

    def _record(self, **what: Any) -> Action:
        return self._conversation.record(**what)

    def _step(self, name: str) -> Step | None:
        with self._lock:
            stepped = self._conversation.step(name)
            if stepped is None:
                return None
            action, box = stepped
            objects = self.history.objects
            if action.label in objects and action.do != "settle":
                self.current = action.label
            elif self.current not in objects:
                self.current = next(reversed(objects), None)
        self._conversation.notify((action.label, *action.sources), box)
        answers = self._conversation.ask_open([action.label]) if action.label in objects else []
        return Step(action, tuple(answers))

    def _notify(self, label: int, box: Box | None) -> None:
        self._conversation.notify((label,), box)
