"""What is slow the first time, done beside the GUI thread before anybody waits for it."""

from __future__ import annotations

from functools import cache


@cache
def warm_up() -> None:
    """Load what layers and strokes need: the first of them would hold up the window for half a second and more."""
    import numpy as np
    from napari.layers import Labels, Points, Shapes
    from skimage.measure import approximate_polygon  # noqa: F401  strokes are simplified with it
    from vispy.visuals.line.dash_atlas import DashAtlas

    from napari_sammed.plugin.layers.label_view import ahead, colormap_of

    Labels(np.zeros((2, 2, 2), np.uint16), colormap=colormap_of(ahead(0)))
    Points(ndim=3)
    Shapes(ndim=3)
    DashAtlas()  # napari draws a line in each label layer; the patterns of dashes are computed once
