"""Actions and answers as journal entries, and journals turned back into a history."""

from __future__ import annotations

import math
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from napari_sammed.backend.base import Backend, Cancel, Prediction, Progress
from napari_sammed.errors import InputError, SessionDamagedError
from napari_sammed.geometry import Box
from napari_sammed.intensity import Window
from napari_sammed.prompts import pack_mask, prompt_from_json, prompt_to_json, unpack_mask
from napari_sammed.session.asking import Asker
from napari_sammed.session.history import Action, History, Origin
from napari_sammed.session.journal import read_journal
from napari_sammed.session.roster import Overlap, roster

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
    if action.zoom:
        entry["zoom"] = True
    for name in ("axis", "target", "reading", "on", "position"):
        if getattr(action, name) is not None:
            entry[name] = getattr(action, name)
    if action.slices:
        entry["slices"] = [list(part) for part in action.slices]
    if action.sources:
        entry["sources"] = list(action.sources)
    if action.part is not None:
        entry["part"] = prompt_to_json(action.part)
    if action.beside:
        entry["beside"] = [[label, prompt_to_json(point)] for label, point in action.beside]
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
        slices=tuple((int(first), int(end)) for first, end in entry.get("slices", ())),
        zoom=entry.get("zoom", False),
        target=entry.get("target"),
        reading=entry.get("reading"),
        on=entry.get("on"),
        position=entry.get("position"),
        sources=tuple(entry.get("sources", ())),
        part=prompt_from_json(entry["part"]) if "part" in entry else None,
        beside=tuple((int(label), prompt_from_json(point)) for label, point in entry.get("beside", ())),
    )


def answer_to_json(action_id: int, answer: Prediction, origin: Origin) -> dict[str, Any]:
    """An answer with all its readings as a journal entry, and how it came about, but without its logits."""
    entry = {
        "answer": action_id,
        "previous": origin.previous,
        "scope": _box_to_json(answer.scope),
        **_reading_to_json(answer),
        "model": answer.model,
        "weights": answer.weights_hash,
        "reductions": list(answer.reductions),
    }
    if origin.carries:
        entry["carries"] = True
    if origin.together:
        entry["together"] = list(origin.together)
    if origin.withheld:
        entry["withheld"] = [None if mask is None else prompt_to_json(mask) for mask in origin.withheld]
    if answer.slice_scores:
        entry["axis"] = answer.axis
        entry["slice_scores"] = {str(index): score for index, score in sorted(answer.slice_scores.items())}
    if answer.silent:
        entry["silent"] = [_box_to_json(box) for box in answer.silent]
    if answer.alternatives:
        entry["alternatives"] = [_reading_to_json(other) for other in answer.alternatives]
    return entry


def answer_from_json(entry: dict[str, Any]) -> tuple[Prediction, Origin]:
    """The inverse of `answer_to_json`; the answer has neither logits nor times."""
    common = {
        "scope": _box_from_json(entry["scope"]),
        "model": entry["model"],
        "weights_hash": entry["weights"],
        "reductions": tuple(entry["reductions"]),
    }
    parts = {  # of a propagation; journals of before have no scores
        "slice_scores": {int(index): float(score) for index, score in entry.get("slice_scores", {}).items()},
        "axis": entry.get("axis"),
        "silent": tuple(_box_from_json(corners) for corners in entry.get("silent", ())),
    }
    others = tuple(Prediction(**_reading_from_json(other), **common) for other in entry.get("alternatives", ()))
    withheld = tuple(None if mask is None else prompt_from_json(mask) for mask in entry.get("withheld", ()))
    origin = Origin(entry["previous"], entry.get("carries", False), tuple(entry.get("together", ())), withheld)
    return Prediction(**_reading_from_json(entry), **common, **parts, alternatives=others), origin


def _reading_to_json(answer: Prediction) -> dict[str, Any]:
    score = None if math.isnan(answer.score) else answer.score
    return {"low": list(answer.box.low), **pack_mask(answer.mask), "score": score}


def _reading_from_json(entry: dict[str, Any]) -> dict[str, Any]:
    mask = unpack_mask(entry)
    score = math.nan if entry["score"] is None else float(entry["score"])
    return {"mask": mask, "box": Box.of_shape(mask.shape).shift(entry["low"]), "score": score}


def overlap_of(header: dict[str, Any]) -> Overlap:
    """The overlap rule that a journal begins with; InputError if it is none."""
    rule = header.get("overlap", "replace")
    if rule not in get_args(Overlap):
        raise InputError(f"The session file begins with an overlap rule {rule!r} that is not known here.")
    return rule


def refill(history: History, entries: list[dict[str, Any]]) -> None:
    """Put the entries of a journal into an empty history, with the answers that are stored in it.

    Raises
    ------
    InputError
        If an entry is not what this package writes.
    """
    for number, entry in enumerate(entries, 2):
        try:
            if not retrace(history, entry):
                history.answer(int(entry["answer"]), *answer_from_json(entry))
        except (KeyError, TypeError, ValueError) as error:
            raise SessionDamagedError(f"Line {number} of the session file makes no sense: {error}.") from None
    try:
        roster(history.done)
    except (KeyError, TypeError, IndexError) as error:
        raise SessionDamagedError(f"The session file makes no sense: {error!r} is no object of it.") from None


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
    history = History(image.grid.box, overlap_of(header))
    asker = Asker(backend, backend.open(image), history, threading.RLock())
    again: dict[int, Prediction] = {}  # of a pass for several objects, the answers to the others
    for number, entry in enumerate(entries, 2):
        if progress is not None:
            progress("replaying", number / (len(entries) + 1))
        try:
            if retrace(history, entry):
                continue
            answer, origin = answer_from_json(entry)
            action_id = int(entry["answer"])
            if history.find(action_id).asks:  # else painted, or taken over from elsewhere
                if action_id not in again:
                    again |= asker.repeat(action_id, origin, cancel, answer)
                answer = again.pop(action_id)
            history.answer(action_id, answer, origin)
        except (KeyError, TypeError) as error:
            raise InputError(f"Line {number} of the session file makes no sense: {error!r}.") from None
    return history


def retrace(history: History, entry: dict[str, Any]) -> bool:
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
