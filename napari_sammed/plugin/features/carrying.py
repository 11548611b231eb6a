"""Objects of one frame taken over into another."""

from __future__ import annotations

from collections.abc import Sequence

from napari_sammed.session import Session
from napari_sammed.session.actions import ObjectState


def carry_over(session: Session, objects: Sequence[ObjectState], origin: str) -> str:
    """Give a session the masks of objects of another frame, with their labels, names, classes and colours.

    What is there already, by its name, stays as it is.

    Parameters
    ----------
    session : Session
        Of an image of the same shape.
    objects : sequence of ObjectState
    origin : str
        What to call the frame that they come from.

    Returns
    -------
    str
        What to say of it.
    """
    there = {state.name for state in session.objects.values()}
    known = [state for state in objects if state.mask is not None]
    new = [state for state in known if state.name not in there]
    current = session.current
    for state in new:
        label = session.take(state.mask, state.name, label=state.label)
        if state.kind:
            session.classify(label, state.kind)
        if session.objects[label].colour != state.colour:
            session.recolour(label, state.colour)
    if current is not None:
        session.select(current)
    if not known:
        return f"There is nothing to copy yet on {origin}: segment an object there first."
    left = f" {_count(len(known) - len(new))} of that name {_are(len(known) - len(new))} here already."
    if not new:
        return f"Copied nothing from {origin}:{left}"
    told = f"Copied {_count(len(new))} from {origin}: correct what has changed, undo takes them back one by one."
    return told + (left if len(new) < len(known) else "")


def _count(number: int) -> str:
    return f"{number} object{'s' * (number != 1)}"


def _are(number: int) -> str:
    return "is" if number == 1 else "are"
