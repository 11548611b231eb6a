"""How clicks, boxes and strokes look in their layers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from napari_sammed.plugin.layers.prompt_rows import NEW, SKETCH, Rows, difference

if TYPE_CHECKING:
    from napari.components import Dims
    from napari.layers import Points, Shapes

COLOURS = {True: "#009e73", False: "#d55e00"}
"""Bluish green and vermilion of Okabe and Ito, which people with any kind of colour vision tell apart."""
SYMBOLS = {True: "disc", False: "cross"}
BOX_COLOUR = "#f0e442"
STROKE_COLOURS = {positive: f"{colour}8c" for positive, colour in COLOURS.items()}
"""The same, half clear."""


def style_next(layer: Points, positive: bool) -> None:
    """How the next click will look, and what it will mean."""
    layer.selected_data = set()  # else the look of selected points changes too
    layer.feature_defaults = {"prompt": NEW, "positive": positive}
    layer.current_face_color = COLOURS[positive]
    layer.current_symbol = SYMBOLS[positive]
    layer.current_border_color = COLOURS[positive]  # borders grow with the zoom, sizes do not: they hide the face


def same_but_numbers(seen: Rows, rows: Rows) -> bool:
    """Whether rows are what the user just added, so that only their numbers are missing; the usual case is fast."""
    if NEW not in seen.numbers or len(seen) != len(rows):
        return False
    return not difference(replace(seen, numbers=rows.numbers), rows)


def write_numbers(layer: Points | Shapes, rows: Rows) -> None:
    """Number the rows of a layer that shows them already; no event, no drawing: nobody sees the numbers."""
    layer.features["prompt"] = np.array(rows.numbers, int)


def write_points(layer: Points, rows: Rows, next_positive: bool) -> None:
    """Make a layer show these clicks, and the next one in its colour."""
    layer.selected_data = set()
    layer.data = np.array(rows.coordinates).reshape(len(rows), layer.ndim)
    if not layer.visible:  # napari leaves a hidden layer be, and fails at its next colours if it has fewer points
        layer.set_view_slice()
    layer.features = {"prompt": np.array(rows.numbers, int), "positive": np.array(rows.positive, bool)}
    if len(rows):
        layer.face_color = [COLOURS[p] for p in rows.positive]
        layer.symbol = [SYMBOLS[p] for p in rows.positive]
        layer.border_color = [COLOURS[p] for p in rows.positive]
    style_next(layer, next_positive)


def shapes_can_be_added(layer: Shapes, dims: Dims) -> bool:
    """Whether they can: napari fails to add flat ones while it displays in 3D."""
    return layer.ndim >= dims.ndisplay


def write_boxes(layer: Shapes, rows: Rows, width: float) -> None:
    """Make a layer show these boxes."""
    _clear(layer)
    if len(rows):
        layer.add_rectangles(list(rows.coordinates), edge_color=BOX_COLOUR, face_color="transparent", edge_width=width)
    layer.features = {"prompt": np.array(rows.numbers, int)}
    layer.feature_defaults = {"prompt": NEW}


def style_next_stroke(layer: Shapes, positive: bool, width: float) -> None:
    """How the path will look that napari draws while the user does."""
    layer.selected_data = set()  # else the look of selected shapes changes too
    layer.feature_defaults = {"prompt": SKETCH, "positive": positive}
    layer.current_edge_width = width
    layer.current_edge_color = STROKE_COLOURS[positive]
    layer.current_face_color = "transparent"


def write_strokes(layer: Shapes, rows: Rows) -> None:
    """Make a layer show these strokes."""
    _clear(layer)
    if len(rows):
        colours = [STROKE_COLOURS[positive] for positive in rows.positive]
        dabs = [width == 0 for width in rows.widths]
        layer.add(
            list(rows.coordinates),
            shape_type=["ellipse" if dab else "path" for dab in dabs],
            edge_width=list(rows.widths),
            edge_color=["transparent" if dab else colour for dab, colour in zip(dabs, colours, strict=True)],
            face_color=[colour if dab else "transparent" for dab, colour in zip(dabs, colours, strict=True)],
        )
    layer.features = {"prompt": np.array(rows.numbers, int), "positive": np.array(rows.positive, bool)}
    layer.feature_defaults = {"prompt": NEW, "positive": True}


def _clear(layer: Shapes) -> None:
    """Take all shapes away; taking nothing away takes napari as long."""
    layer.selected_data = set()
    if len(layer.data):
        layer.data = []
