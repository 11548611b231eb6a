"""The demo in a real viewer: the sample is shown, and its first object is segmented where it was clicked."""

from __future__ import annotations

import numpy as np

from napari_sammed.commands.demo import torso_scene
from napari_sammed.evaluation.metrics import dice
from napari_sammed.plugin.demo import make_room, set_up
from napari_sammed.samples import load


def test_the_demo_opens_with_its_first_object(make_napari_viewer, qtbot):
    scene = torso_scene(load("torso"))
    viewer = make_napari_viewer()
    widget = set_up(viewer, scene.sample, scene.title, scene.clicks, "random-walker")
    try:
        segmentation = widget.coordinator.current

        def segmented() -> bool:
            session = segmentation.session
            return (
                session is not None
                and session.current is not None
                and session.objects[session.current].mask is not None
            )

        qtbot.waitUntil(segmented, timeout=60_000)
        state = segmentation.session.objects[segmentation.session.current]
        assert state.name == "liver"

        def painted() -> bool:
            layer = segmentation.writer.labels
            return layer is not None and np.count_nonzero(layer.data == state.label) == np.count_nonzero(
                state.mask.mask
            )

        qtbot.waitUntil(painted, timeout=10_000)
        assert dice(np.asarray(segmentation.writer.labels.data) == state.label, scene.reference) > 0.85
        assert viewer.layers["torso reference"].visible is False
        slice_shown = viewer.layers["torso"].world_to_data(viewer.dims.point)[0]
        assert round(slice_shown) == scene.clicks[0].index[0]
    finally:
        widget.coordinator.close(wait=True)


def test_the_window_is_large_enough_for_panel_and_image(make_napari_viewer):
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(800, 600)
    make_room(viewer)
    assert viewer.window.geometry()[2:] == (1400, 900)
    viewer.window.resize(1500, 950)
    make_room(viewer)
    assert viewer.window.geometry()[2:] == (1500, 950), "what the user made larger stays so"
