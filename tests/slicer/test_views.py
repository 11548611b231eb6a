"""Prompts placed with the mouse in real slice views, off screen, and pictures of what comes of them.

``SLICER_SHOTS`` names a folder that keeps the pictures, to be looked at.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed: pip install 'napari-sammed[slicer]'")

import slicer
import vtk
from SammedLib import volumes
from vtk.util import numpy_support

from tests.slicer.scenes import SIDE, Face, add_volume, matrix, segment_mask

TILTED = np.array([[0.96, -0.28, 0.0], [0.2688, 0.9216, -0.28], [0.0784, 0.2688, 0.96]])
"""IJK directions some 16 degrees off those of the patient."""


def phantom() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A slanted ellipsoid and a ball beside it, in noise, and the voxels of both."""
    k, j, i = np.indices((24, 64, 72), float)
    grey = np.random.default_rng(5).integers(94, 106, k.shape).astype(np.int16)
    organ = ((k - 12) / 7) ** 2 + ((j - 30 - 0.4 * (i - 28)) / 11) ** 2 + ((i - 28) / 19) ** 2 < 1
    ball = (3 * (k - 12) / 0.9) ** 2 + (1.1 * (j - 50) / 0.9) ** 2 + (0.8 * (i - 56) / 0.9) ** 2 < 11**2
    ball &= ~organ
    grey[organ], grey[ball] = 220, 320
    return grey, organ, ball


def picture(view, name: str) -> np.ndarray:
    """What a view shows, (row, column, RGB), the first row on top."""
    view.set_render_blocked(False)
    view.render()
    view.set_render_blocked(True)
    grab = vtk.vtkWindowToImageFilter()
    grab.SetInput(view.render_window())
    grab.ReadFrontBufferOff()
    grab.Update()
    image = grab.GetOutput()
    columns, rows, _ = image.GetDimensions()
    folder = os.environ.get("SLICER_SHOTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        writer = vtk.vtkPNGWriter()
        writer.SetFileName(str(Path(folder) / f"{name}.png"))
        writer.SetInputData(image)
        writer.Write()
    return numpy_support.vtk_to_numpy(image.GetPointData().GetScalars()).reshape(rows, columns, -1)[::-1, :, :3]


def pixel_of(view, world: np.ndarray) -> tuple[int, int]:
    """Where a position of the world is seen in a slice view; (0, 0) is below on the left."""
    from_xy = slicer.util.arrayFromVTKMatrix(view.get_view_node().GetXYToRAS())
    x, y, _, _ = np.linalg.solve(from_xy, (*world, 1))
    return round(x), round(y)


def click(view, x: int, y: int) -> None:
    interactor = view.interactor()
    interactor.SetEventInformation(x, y)
    for event in ("MouseMoveEvent", "LeftButtonPressEvent", "LeftButtonReleaseEvent"):
        interactor.InvokeEvent(event)


def place(application, view, kind: str, positions: list) -> slicer.vtkMRMLMarkupsNode:
    """Have a node of markups placed by the mouse, at positions in the world."""
    node = slicer.mrmlScene.AddNewNodeByClass(f"vtkMRMLMarkups{kind}Node", kind[0])
    node.CreateDefaultDisplayNodes()
    application.markups_logic.place_node(node, persistent=True)
    for position in positions:
        click(view, *pixel_of(view, position))
    application.markups_logic.disable_place_mode()
    return node


@pytest.fixture
def opened(application, scene, views):
    """A face on an oblique volume that the views show, along its voxels, at slice 12."""
    grey, organ, ball = phantom()
    volume = add_volume(grey, matrix(TILTED))
    volume.CreateDefaultDisplayNodes()
    application.display_manager.show_volume(volume)
    axial = views[0]
    node = axial.get_view_node()
    axial.set_background_volume_id(volume.GetID())
    node.RotateToVolumePlane(volume)
    axial.fit_view_to_content()
    middle = volumes.to_world(volume, [(12, 32, 36)])[0]
    node.JumpSliceByCentering(*middle)
    assert volumes.slice_shown(volume, node) == (0, 12)
    face = Face()
    segmentation = face.logic.open(volume)
    face.wait()
    yield face, volume, segmentation, organ, ball
    face.logic.close()


def test_fiducials_placed_by_mouse_become_segments(application, views, opened):
    face, volume, segmentation, organ, ball = opened
    axial, solid = views
    before = picture(axial, "axial-before")
    targets = [(12, 30, 28), (12, 50, 56)]
    positions = [volumes.to_world(volume, [index])[0] for index in targets]
    fiducials = place(application, axial, "Fiducial", positions)
    assert fiducials.GetNumberOfDefinedControlPoints() == 2
    size = np.abs(volumes.to_index(volume, [[0, 0, 0]]) - volumes.to_index(volume, [axial_step(axial)]))
    for number, index in enumerate(targets):
        reached = volumes.to_index(volume, [fiducials.GetNthControlPointPositionWorld(number)])[0]
        assert np.abs(reached - index).max() <= max(0.51 * size.max(), 0.01) + 0.5  # a pixel of the view
    face.logic.next_segment("liver")
    face.logic.add_point(fiducials, 0)
    face.wait()
    face.logic.next_segment("lesion")
    face.logic.add_point(fiducials, 1)
    face.wait()
    ids = segmentation.GetSegmentation().GetSegmentIDs()
    assert np.array_equal(segment_mask(segmentation, ids[0], volume), organ)
    assert np.array_equal(segment_mask(segmentation, ids[1], volume), ball)

    after = picture(axial, "axial-after")
    for index, segment_id in zip(((12, 26, 20), (12, 50, 58)), ids, strict=True):  # beside the points
        x, y = pixel_of(axial, volumes.to_world(volume, [index])[0])
        colour = np.array(segmentation.GetSegmentation().GetSegment(segment_id).GetColor())
        old, new = (shot[SIDE - 1 - y, x].astype(float) for shot in (before, after))
        assert np.argmax(new - old) == np.argmax(colour)
        assert np.abs(new - old).max() > 20
    outside = pixel_of(axial, volumes.to_world(volume, [(12, 5, 5)])[0])
    assert np.array_equal(before[SIDE - 1 - outside[1], outside[0]], after[SIDE - 1 - outside[1], outside[0]])

    segmentation.CreateClosedSurfaceRepresentation()
    solid.reset_focal_point()
    solid.reset_camera()
    shot = picture(solid, "3d-after")
    assert len(np.unique(shot.reshape(-1, 3), axis=0)) > 200  # shaded surfaces, not a flat background


def axial_step(view) -> list[float]:
    """One pixel of a slice view, as a vector in the world."""
    from_xy = slicer.util.arrayFromVTKMatrix(view.get_view_node().GetXYToRAS())
    return (from_xy[:3, 0] + from_xy[:3, 1]).tolist()


def test_a_lasso_drawn_by_mouse_on_an_oblique_volume(application, views, opened):
    _, volume, _, _, ball = opened
    axial = views[0]
    around = [
        volumes.to_world(volume, [(12, 50 + 12 * np.sin(angle), 56 + 14 * np.cos(angle))])[0]
        for angle in np.linspace(0, 2 * np.pi, 8, endpoint=False)
    ]
    curve = place(application, axial, "ClosedCurve", around)
    assert curve.GetNumberOfDefinedControlPoints() == 8
    from SammedLib import markups

    prompt = markups.lasso(curve, volume)
    assert prompt.extent.low[0] == 12
    assert prompt.extent.shape[0] == 1
    inside = np.zeros(ball.shape, bool)
    inside[prompt.extent.slices] = prompt.mask
    assert (inside & ball)[12].sum() >= 0.95 * ball[12].sum()
    picture(axial, "axial-lasso")
