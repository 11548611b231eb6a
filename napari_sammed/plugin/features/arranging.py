"""What the user wants done with objects in the table, as calls of the session."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from napari_sammed.session import Session


def arrange(session: Session, deed: str, labels: Sequence[int], value: Any) -> str:
    """Do a deed of `napari_sammed.plugin.views.objects.ObjectList.wanted`; returns what to say of it, mostly nothing.

    Raises
    ------
    InputError
        If the session refuses; what was done before that to other objects stays done.
    """
    names = session.objects
    match deed:
        case "overlap":
            session.overlap = value
            if value == "ask":
                return "Voxels of a new answer that another object has stay with it until you decide."
            first = "earlier" if value == "keep" else "later"
            return f"Where objects overlap, the {first} one in the list is on top; locked ones always are."
        case "merge":
            label = session.merge(labels)
            return f"{names[label].name} now has the voxels of {len(labels)} objects."
        case "move":
            order = list(names)
            for label in sorted(labels, key=order.index, reverse=value > 0):
                session.move(label, list(session.objects).index(label) + value)
        case "rename":
            session.rename(labels[0], value or f"Object {labels[0]}")
        case "classify":
            session.classify(labels[0], value)
        case "recolour":
            session.recolour(labels[0], value)
        case "show":
            session.show(labels[0], value)
        case "lock":
            session.lock(labels[0], value)
        case "duplicate":
            for label in labels:
                session.duplicate(label)
        case "delete":
            for label in labels:
                session.delete(label)
    return ""
