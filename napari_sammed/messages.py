"""What the windows, of napari and of 3D Slicer, say about what happened, in one sentence."""

from __future__ import annotations

import logging
import math
import re
from concurrent.futures import CancelledError
from datetime import datetime
from html import escape
from typing import TYPE_CHECKING

from napari_sammed.errors import Cancelled, InputError
from napari_sammed.models.registry import Row
from napari_sammed.models.sources import by_hand, licence_sentence, weight_file

if TYPE_CHECKING:
    from napari_sammed.backend.base import ClassMap, Prediction
    from napari_sammed.geometry import Grid
    from napari_sammed.models.base import ModelCard
    from napari_sammed.session.actions import Action, ObjectState

logger = logging.getLogger(__name__)

LARGE = (
    "This image is large, so it is read in parts: models look at what is in view. Zoom until the object fills it. "
    "napari's own brush cannot paint in its labels."
)
"""Of an image that is read by region."""


def answered(
    state: ObjectState | None, voxels: int, grid: Grid, prediction: Prediction, before: float = math.nan
) -> str:
    """What came back for a prompt or a propagation; `before` is a score to compare with."""
    name = "The object" if state is None else state.name
    if voxels == 0:
        return f"{name} is empty: nothing was found for this prompt. Try another place, a box or another model."
    parts = [f"{name}: {size(voxels, grid)}"]
    if not math.isnan(prediction.score):
        was = "" if math.isnan(before) else f" ({before:.2f} before)"
        parts.append(f"score {prediction.score:.2f}{was}")
    if prediction.alternatives:
        parts.append(f"one of {len(prediction.readings)} readings")
    if prediction.slice_scores:
        parts.append(f"{len(prediction.slice_scores)} slices")
    if "total" in prediction.seconds:
        parts.append(f"{prediction.seconds['total']:.1f} s")
    return ", ".join(parts) + "."


def looked_closer(
    state: ObjectState | None, voxels: int, grid: Grid, prediction: Prediction, before: float = math.nan
) -> str:
    """What came back for a closer look; `before` is the object's score before it."""
    if voxels and not prediction.mask.any():
        return f"{state.name}: nothing was found in this part by looking closer. Undo brings back what was there."
    return answered(state, voxels, grid, prediction, before)


def read(state: ObjectState, voxels: int, grid: Grid) -> str:
    """Which reading of an ambiguous prompt is shown now."""
    which = f"reading {state.reading + 1} of {len(state.readings)}, score {state.readings[state.reading]:.2f}"
    return f"{state.name}: {size(voxels, grid) or 'empty'}, {which}."


def classified(found: ClassMap, title: str) -> str:
    """What a model without prompts found."""
    there = [name for name, count in found.counts.items() if count]
    seconds = f" in {found.seconds['total']:.1f} s" if "total" in found.seconds else ""
    if not there:
        return f"{title} found nothing{seconds}: it knows {', '.join(found.classes)}."
    return f"{title} found {len(there)} of {len(found.classes)} classes{seconds}."


def size(voxels: int, grid: Grid) -> str:
    """Volume or area of an object, for people; empty if it has no voxels."""
    if voxels == 0:
        return ""
    amount = voxels * grid.voxel_volume
    if amount < 0.05:  # a microscope's
        return f"{amount * 1e9:,.0f} µm³" if grid.ndim == 3 else f"{amount * 1e6:,.0f} µm²"
    if grid.ndim == 3:
        return f"{amount / 1000:.1f} ml" if amount >= 100 else f"{amount:.1f} mm³"
    return f"{amount / 100:.1f} cm²" if amount >= 1e4 else f"{amount:.0f} mm²"


def when(moment: datetime, now: datetime | None = None) -> str:
    """A moment of the past, local time, as one says it."""
    days = ((now or datetime.now()).date() - moment.date()).days
    day = {0: "today", 1: "yesterday"}.get(days) or f"on {moment.day} {moment:%B %Y}"
    return f"{day} {moment:%H:%M}"


def counted(count: int, what: str = "object") -> str:
    """A number of things."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def stepped(action: Action | None, verb: str) -> str:
    """What undo or redo did."""
    if action is None:
        return f"There is nothing to {verb}."
    what = {
        "object": "new object",
        "prompt": "prompt",
        "remove": "removal of a prompt",
        "replace": "change of a prompt",
        "choose": "choice of another reading",
        "adopt": "choice of another model's answer",
        "take": "taken-over mask",
        "propagate": "propagation",
        "refine": "closer look",
        "edit": "painting",
        "clear": "clearing",
        "rename": "renaming",
        "classify": "choice of a class",
        "recolour": "choice of a colour",
        "show": "showing" if action.on else "hiding",
        "lock": "locking" if action.on else "unlocking",
        "move": "move in the list",
        "duplicate": "copy",
        "merge": "merger",
        "overlap": "choice of the overlap rule",
        "settle": "decision about an overlap",
        "delete": "deletion",
    }[action.do]
    which = f" (object {action.label})" if action.label else ""
    return f"{'Took back' if verb == 'undo' else 'Did again'}: {what}{which}."


def failure(error: BaseException) -> str | None:
    """What to say about an error; None for work that was called off. Defects are logged with their traceback."""
    if isinstance(error, (Cancelled, CancelledError)):
        return None
    if isinstance(error, InputError):
        text = str(error)
        return text[:1].upper() + text[1:]
    logger.error("A defect of napari-sammed", exc_info=error)
    return f"Something went wrong inside napari-sammed ({type(error).__name__}: {error}). The log has the details."


def model_note(card: ModelCard, row: Row) -> str:
    """What to know of a model before using it; may hold a link."""
    if row.status != "absent":
        return row.summary
    file = weight_file(card)
    if by_hand(card):
        address = re.search(r"https?://\S+", row.source)
        link = '<a href="{}" style="color: #3b86e0;">this page</a>'  # Qt's own is too dark on dark themes
        where = link.format(address[0]) if address else escape(row.source)
        return escape(f"{row.summary} Its weights (licence {row.licence}) are fetched by hand from ") + (
            f"{where}: download the file, then choose it here."
        )
    if not file.permissive:
        size = f"{file.size / 1e6:.0f} MB, " if file.size else ""
        return f"{row.summary} Its weights ({size}licence {row.licence}) are fetched when you agree to that."
    return f"{row.summary} {row.first_use}"


def model_tooltip(row: Row) -> str:
    """The facts of a model, a line each."""
    lines = [row.summary, f"Works on {row.dimensions}; trained on: {row.prompts or 'no prompts'}."]
    if row.status == "not needed":
        lines.append("Needs no weights.")
    elif row.path is None:
        lines += [row.first_use, row.source]
    else:
        lines.append(f"Its weights (licence {row.licence}) are on this machine.")
    return "\n".join(lines)


def server_note(card: ModelCard, host: str, known: bool) -> str:
    """What to know of a model that is used at a server, of which it may not be known yet whether it has that."""
    summary = plain(card.summary)
    return summary if known else f"{summary} Whether {host} has it shows when it is first asked."


def server_tooltip(card: ModelCard, host: str, known: bool) -> str:
    """The facts of a model at a server, a line each."""
    dimensions = ", ".join(f"{dimension}D" for dimension in sorted(card.dimensions))
    prompts = ", ".join(sorted(card.prompts)) or "no prompts"
    where = f"Runs at {host}." if known else f"Runs at {host}, if that has it."
    return "\n".join([plain(card.summary), f"Works on {dimensions}; trained on: {prompts}.", where])


def plain(text: str) -> str:
    """Text of a server, for places where HTML would be taken as such."""
    return text.replace("<", " ")


def server_size(count: int) -> str:
    """Bytes of an image, for people."""
    return f"{count / 2**20:,.1f} MiB" if count < 100 * 2**20 else f"{count / 2**20:,.0f} MiB"


def conditions(card: ModelCard, row: Row) -> str:
    """What a user should know before the weights of a model are fetched."""
    file = weight_file(card)
    size = f", {file.size / 1e6:.0f} MB" if file.size else ""
    parts = [f"{card.title}: {file.filename}{size}", f"From {row.source}", f"Licence of the weights: {file.licence}"]
    if not file.permissive:
        parts.append(f"{licence_sentence(card)}. Fetch them only if you may use them like that.")
    if file.note:
        parts.append(file.note)
    if card.intended_use:
        parts.append(f"Made for: {card.intended_use}")
    return "\n\n".join(parts)
