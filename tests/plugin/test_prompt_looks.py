"""How clicks are written into their layer, with napari's own drawing of it."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sammed.plugin.layers.prompt_looks import write_points
from napari_sammed.plugin.layers.prompt_rows import Rows


def _rows(count: int) -> Rows:
    places = tuple(np.array([number, number], float) for number in range(count))
    return Rows(tuple(range(count)), places, (True,) * count)


@pytest.mark.parametrize("visible", [True, False])
def test_fewer_clicks_are_written(make_napari_viewer, visible):
    layer = make_napari_viewer().add_points(ndim=2)
    write_points(layer, _rows(4), True)
    layer.visible = visible
    for count in (3, 1, 0, 2):
        write_points(layer, _rows(count), True)
        assert len(layer.data) == len(layer.face_color) == count
    layer.visible = True
