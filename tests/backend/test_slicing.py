"""Prompts cut to a part of the image."""

from __future__ import annotations

from napari_sammed.backend.slicing import in_region
from napari_sammed.geometry import Box
from napari_sammed.prompts import Prompts, Stroke


def test_a_stroke_that_passes_by_a_part_is_left_out_of_it():
    around_a_corner = Prompts((Stroke(((0.0, 0.0), (10.0, 0.0), (10.0, 10.0))),))
    assert not in_region(around_a_corner, Box((0, 5), (5, 11)))
    (left,) = in_region(around_a_corner, Box((5, 0), (11, 5)))
    assert left.extent == Box((5, 0), (11, 5))
