"""Actions and answers as journal entries, and journals turned back into a history."""

from __future__ import annotations

import math
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_sammed.backend.base import Backend, Cancel, ImageId, Prediction, Progress
from napari_sammed.errors import InputError
from napari_sammed.geometry import Box
from napari_sammed.history import Action, History
from napari_sammed.intensity import Window
from napari_sammed.journal import read_journal
from napari_sammed.prompts import pack_mask, prompt_from_json, prompt_to_json, unpack_mask

if TYPE_CHECKING:
    from napari_sammed.volume import Volume

BY_HAND = "user"
"""In place of a model's name: the answer came from the user (an edit, a clearing)."""


def action_to_json(action: Action) -> dict[str, Any]:
    """An action as a journal entry; what is not set is left out."""
    entry: dict[str, Any] = {"do": action.do, "id": action.id, "label": action.label}
    if action.name:
        entry["name"] = action.name
    if action.prompt is not None:
        entry["prompt"] = prompt_to_json(action.prompt)
    if action.model:
        entry["model"] = action.model
    if action.window is not None:
        entry["window"] = action.window.to_json()
    if action.region is not None:
        entry["region"] = _box_to_json(action.region)
    if action.axis is not None:
        entry["axis"] = action.axis
    return entry


def action_from_json(entry: dict[str, Any]) -> Action:
    """The inverse of `action_to_json`."""
    return Action(
        id=int(entry["id"]),
        do=entry["do"],
        label=int(entry["label"]),
        name=entry.get("name", ""),
        prompt=prompt_from_json(entry["prompt"]) if "prompt" in entry else None,
        model=entry.get("model", ""),
        window=Window.from_json(entry["window"]) if "window" in entry else None,
        region=_box_from_json(entry["region"]) if "region" in entry else None,
        axis=entry.get("axis"),
    )


def answer_to_json(action_id: int, answer: Prediction, previous: int | None) -> dict[str, Any]:
    """An answer as a journal entry, with the action whose logits it started from, but without its own logits."""
    return {
        "answer": action_id,
        "previous": previous,
        "scope": _box_to_json(answer.scope),
        "low": list(answer.box.low),
        **pack_mask(answer.mask),
        "score": None if math.isnan(answer.score) else answer.score,
        "model": answer.model,
        "weights": answer.weights_hash,
        "reductions": list(answer.reductions),
    }


def answer_from_json(entry: dict[str, Any]) -> Prediction:
    """The inverse of `answer_to_json`, without logits and times."""
    mask = unpack_mask(entry)
    return Prediction(
        mask=mask,
        box=Box.of_shape(mask.shape).shift(entry["low"]),
        scope=_box_from_json(entry["scope"]),
        score=math.nan if entry["score"] is None else float(entry["score"]),
        model=entry["model"],
        weights_hash=entry["weights"],
        reductions=tuple(entry["reductions"]),
    )


def refill(history: History, entries: list[dict[str, Any]]) -> None:
    """Put the entries of a journal into an empty history, with the answers that are stored in it.

    Raises
    ------
    InputError
        If an entry is not what this package writes.
    """
    for number, entry in enumerate(entries, 2):
        try:
            if not _retrace(history, entry):
                history.answer(int(entry["answer"]), answer_from_json(entry))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"Line {number} of the session file makes no sense: {error}.") from None


def replay(
    path: Path, image: Volume, backend: Backend, *, cancel: Cancel | None = None, progress: Progress | None = None
) -> History:
    """Ask everything in a journal again; gives the same masks with the same weights.

    Parameters
    ----------
    path : Path
    image : Volume
        The journal's image (its hash is checked).
    backend : Backend
    cancel, progress : optional

    Returns
    -------
    History
        With the new answers. Questions without a stored answer (superseded, cancelled, or in flight when the process
        ended) are not asked.
    """
    header, entries = read_journal(path)
    if header["image"] != image.hash:
        raise InputError(f"The session {path} belongs to another image than {image.name or 'this one'}.")
    history = History()
    image_id = backend.open(image)
    lock = threading.RLock()
    for number, entry in enumerate(entries, 2):
        if progress is not None:
            progress("replaying", number / (len(entries) + 1))
        try:
            if _retrace(history, entry):
                continue
            stored = answer_from_json(entry)
            action_id = int(entry["answer"])
            if stored.model != BY_HAND:
                action = next(a for a in (*history.done, *history.undone) if a.id == action_id)
                stored, _ = ask(backend, image_id, history, lock, action, cancel, None, previous=entry["previous"])
        except (KeyError, TypeError, StopIteration) as error:
            raise InputError(f"Line {number} of the session file makes no sense: {error!r}.") from None
        history.answer(action_id, stored)
    return history


def ask(
    backend: Backend,
    image: ImageId,
    history: History,
    lock: threading.RLock,
    action: Action,
    cancel: Cancel | None,
    progress: Progress | None,
    previous: int | None = -1,
) -> tuple[Prediction, int | None]:
    """Put an action to the backend as the history stands; also returns the action whose logits the answer started from.

    ``previous`` -1 looks for that action; any other value (None: no logits) is taken as it is.
    """
    if action.do == "propagate":
        with lock:
            anchors = history.anchors(action)
        answer = backend.propagate(
            image,
            action.model,
            anchors,
            action.axis if action.axis is not None else 0,
            window=action.window,
            within=action.region,
            cancel=cancel,
            progress=progress,
        )
        return answer, None
    with lock:
        prompts = history.question(action)
        if previous == -1:
            previous = history.previous(action)
        logits = None if previous is None else history.answers[previous].logits
    answer = backend.predict(
        image,
        action.model,
        prompts,
        window=action.window,
        region=action.region,
        previous=logits,
        cancel=cancel,
        progress=progress,
    )
    return answer, previous


def _retrace(history: History, entry: dict[str, Any]) -> bool:
    """Do an action, undo or redo of a journal again; False if the entry is an answer."""
    if "answer" in entry:
        return False
    if entry["do"] == "undo":
        history.undo()
    elif entry["do"] == "redo":
        history.redo()
    else:
        history.push(action_from_json(entry))
    return True


def _box_to_json(box: Box) -> list[list[int]]:
    return [list(box.low), list(box.high)]


def _box_from_json(corners: list[list[int]]) -> Box:
    return Box(tuple(corners[0]), tuple(corners[1]))
