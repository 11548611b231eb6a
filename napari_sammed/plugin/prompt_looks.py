"""How clicks and boxes look in their layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_sammed.plugin.prompt_rows import NEW, Rows, difference

if TYPE_CHECKING:
    from napari.layers import Points, Shapes

COLOURS = {True: "#00e676", False: "#ff5252"}
SYMBOLS = {True: "disc", False: "cross"}
BOX_COLOUR = "#ffd600"


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
    return not difference(Rows(rows.numbers, seen.coordinates, seen.positive), rows)


def write_numbers(layer: Points | Shapes, rows: Rows) -> None:
    """Number the rows of a layer that shows them already; no event, no drawing: nobody sees the numbers."""
    layer.features["prompt"] = np.array(rows.numbers, int)


def write_points(layer: Points, rows: Rows, next_positive: bool) -> None:
    """Make a layer show these clicks, and the next one in its colour."""
    layer.selected_data = set()
    layer.data = np.array(rows.coordinates).reshape(len(rows), layer.ndim)
    layer.features = {"prompt": np.array(rows.numbers, int), "positive": np.array(rows.positive, bool)}
    if len(rows):
        layer.face_color = [COLOURS[p] for p in rows.positive]
        layer.symbol = [SYMBOLS[p] for p in rows.positive]
        layer.border_color = [COLOURS[p] for p in rows.positive]
    style_next(layer, next_positive)


def write_boxes(layer: Shapes, rows: Rows) -> None:
    """Make a layer show these boxes."""
    layer.selected_data = set()
    layer.data = []
    if len(rows):
        layer.add_rectangles(list(rows.coordinates), edge_color=BOX_COLOUR, face_color="transparent", edge_width=1)
    layer.features = {"prompt": np.array(rows.numbers, int)}
    layer.feature_defaults = {"prompt": NEW}
