"""What must be so whenever nothing is running: viewer, panel and session say the same."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from napari_sammed.plugin.image.coordinates import between, hidden_axis
from napari_sammed.plugin.layers.prompt_rows import box_rows, click_rows
from napari_sammed.session import Session


def disagreements(hands) -> Iterator[str]:
    """What is shown of the session otherwise than it is."""
    session, writer, panel = hands.session, hands.writer, hands.panel
    objects = session.objects
    labels = writer.labels
    if labels is not None:
        shown = labels.data[0] if labels.multiscale else labels.data
        wrong = np.count_nonzero(np.asarray(shown) != session.labels())
        if wrong:
            yield f"{wrong} voxels of the label layer are not what the session says"
    yield from _rows(hands, objects)
    if session.current is not None and session.current not in objects:
        yield f"the current object {session.current} does not exist"
    if hands.viewer.dims.ndisplay == 2:
        yield from _prompts(hands, objects)
    state = objects.get(session.current)
    readings = () if state is None else state.readings
    if panel.isVisible() and panel.readings.isVisible() != (len(readings) > 1):
        yield f"{len(readings)} readings, but the bar of readings is visible: {panel.readings.isVisible()}"
    if not panel.status.bar.isHidden():
        yield "progress is shown while nothing runs"


def _rows(hands, objects) -> Iterator[str]:
    shown = hands.panel.objects.model.rows
    if [row.label for row in shown] != list(objects):
        yield f"the table shows {[row.label for row in shown]}, the session has {list(objects)}"
        return
    for row in shown:
        state = objects[row.label]
        for name, one, other in (
            ("name", row.name, state.name),
            ("class", row.kind, state.kind),
            ("colour", row.colour, state.colour),
            ("visible", row.visible, state.visible),
            ("locked", row.locked, state.locked),
            ("prompts", row.prompts, len(state.prompts)),
        ):
            if one != other:
                yield f"{name} of object {row.label} is {other!r}, the table shows {one!r}"
    current = hands.panel.objects.current
    if objects and current != hands.session.current:
        yield f"the current object is {hands.session.current}, the table shows {current}"


def _prompts(hands, objects) -> Iterator[str]:
    writer, image = hands.writer, hands.segmentation.view
    state = objects.get(hands.session.current)
    prompts = () if state is None else state.prompts
    rows = {
        "clicks": (writer.points, click_rows(prompts)),
        "boxes": (writer.boxes, box_rows(prompts, hidden_axis(hands.viewer.dims, image.ndim))),
    }
    for name, (layer, wanted) in rows.items():
        if layer is None:
            continue
        seen = [between(layer, image, np.asarray(data)) for data in layer.data]
        if len(seen) != len(wanted):
            yield f"{len(seen)} {name} are shown, the session has {len(wanted)}"
        elif any(
            not np.allclose(a, np.atleast_2d(b), atol=1e-2) for a, b in zip(seen, wanted.coordinates, strict=True)
        ):
            yield f"{name} are not shown where the session has them"
    if writer.points is not None and len(writer.points.data) == len(rows["clicks"][1]):
        signs = tuple(bool(sign) for sign in writer.points.features["positive"])
        if signs != rows["clicks"][1].positive:
            yield f"signs of the clicks are {rows['clicks'][1].positive}, shown are {signs}"


def differences(one: Session, other: object, shape: tuple[int, ...]) -> Iterator[str]:
    """How the objects of two histories differ."""
    ours, theirs = one.objects, other.objects
    if list(ours) != list(theirs):
        yield f"objects {list(ours)} became {list(theirs)}"
        return
    for label, state in ours.items():
        again = theirs[label]
        for name in ("name", "kind", "colour", "visible", "locked", "reading", "prompts"):
            if getattr(state, name) != getattr(again, name):
                yield f"{name} of object {label} was {getattr(state, name)!r}, became {getattr(again, name)!r}"
        if not np.array_equal(_whole(state.mask, shape), _whole(again.mask, shape)):
            yield f"the mask of object {label} became another"


def _whole(mask, shape: tuple[int, ...]) -> np.ndarray:
    array = np.zeros(shape, bool)
    if mask is not None:
        array[mask.extent.slices] = mask.mask
    return array
