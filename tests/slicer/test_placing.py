"""The panel's tools with the mouse in a real slice view, off screen: what ends a drawing, and where it lies."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed: pip install 'napari-sammed[slicer]'")

import slicer
from SammedLib import gestures, volumes
from SammedLib.placing import Placing, interaction, view_of

from napari_sammed.geometry import Box
from napari_sammed.prompts import Point
from tests.slicer.scenes import add_volume, matrix
from tests.slicer.test_views import TILTED, phantom, pixel_of


class Placer:
    """Notes what it is told, with positions, since drawings leave the scene."""

    def __init__(self) -> None:
        self.told: list[tuple] = []

    def placed(self, node, number, positive) -> None:
        self.told.append(("placed", np.array(node.GetNthControlPointPositionWorld(number)), positive))

    def moved(self, node, number, positive) -> None:
        self.told.append(("moved", number, positive))

    def deleted(self, number, positive) -> None:
        self.told.append(("deleted", number, positive))

    def drawn(self, tool, node) -> None:
        positions = [node.GetNthControlPointPositionWorld(n) for n in range(node.GetNumberOfControlPoints())]
        self.told.append(("drawn", tool, np.array(positions)))

    def put_down(self) -> None:
        self.told.append(("put down",))


@pytest.fixture
def volume(scene, views):
    volume = add_volume(phantom()[0], matrix(TILTED))
    volume.CreateDefaultDisplayNodes()
    view = views[0]
    view.set_background_volume_id(volume.GetID())
    view.get_view_node().RotateToVolumePlane(volume)
    view.fit_view_to_content()
    view.get_view_node().JumpSliceByCentering(*volumes.to_world(volume, [(12, 32, 36)])[0])
    return volume


@pytest.fixture
def placing(scene, volume):
    placer = Placer()
    placing = Placing(scene, placer)
    placing.told = placer.told
    yield placing
    placing.close()


def press(view, volume, index, event: str = "LeftButton") -> None:
    x, y = pixel_of(view, volumes.to_world(volume, [index])[0])
    interactor = view.interactor()
    interactor.SetEventInformation(x, y)
    for name in ("MouseMoveEvent", f"{event}PressEvent", f"{event}ReleaseEvent"):
        interactor.InvokeEvent(name)


def test_points_one_after_another(placing, views, volume):
    placing.take("positive")
    wanted = [(12, 30, 28), (12, 50, 56)]
    for index in wanted:
        press(views[0], volume, index)
    assert [told[0] for told in placing.told] == ["placed", "placed"]
    for told, index in zip(placing.told, wanted, strict=True):
        assert told[2] is True
        assert np.abs(volumes.to_index(volume, [told[1]])[0] - index).max() < 0.5
    assert placing.tool == "positive"
    placing.take("negative")
    press(views[0], volume, (12, 20, 20))
    assert placing.told[-1][0] == "placed" and placing.told[-1][2] is False
    placing.take("")
    assert interaction(slicer.mrmlScene).GetCurrentInteractionMode() != interaction(slicer.mrmlScene).Place


def test_a_box_ends_with_its_second_corner(placing, views, volume):
    placing.take("box")
    for index in ((12, 20, 20), (12, 44, 40)):
        press(views[0], volume, index)
    assert [told[0] for told in placing.told] == ["drawn", "put down"]
    assert placing.tool == ""
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLMarkupsROINode") == 0


@pytest.mark.parametrize("tool", ["lasso", "stroke"])
def test_a_curve_ends_with_the_right_button(placing, views, volume, tool):
    placing.take(tool)
    for index in ((12, 20, 20), (12, 44, 20), (12, 44, 40)):
        press(views[0], volume, index)
    assert placing.told == []
    press(views[0], volume, (12, 50, 50), "RightButton")
    assert [told[0] for told in placing.told] == ["drawn", "put down"]
    assert placing.told[0][1] == tool


def test_a_drawing_that_was_not_begun_is_nothing(placing, views, volume):
    placing.take("lasso")
    interaction(slicer.mrmlScene).SwitchToViewTransformMode()
    assert placing.told == [("put down",)]


def test_points_are_shown_without_telling(placing, volume, views):
    prompts = [Point((12.0, 30.0, 28.0)), Point((12.0, 20.0, 20.0), False), Box((1, 1, 1), (3, 3, 3))]
    placing.show(prompts, volume)
    placing.show(prompts[1:], volume)
    placing.show([], volume)
    assert placing.told == []
    placing.show(prompts, volume)
    nodes = list(slicer.mrmlScene.GetNodesByClass("vtkMRMLMarkupsFiducialNode"))
    assert [node.GetNumberOfControlPoints() for node in nodes] == [1, 1]
    nodes[0].RemoveNthControlPoint(0)
    assert placing.told == [("deleted", 0, True)]


def test_which_view_something_was_placed_in(scene, volume, views):
    node = views[0].get_view_node()
    on = volumes.to_world(volume, [(12, 30, 28)])[0]
    assert view_of(scene, on) is node
    assert view_of(scene, volumes.to_world(volume, [(20, 30, 28)])[0]) is not node
    second = scene.AddNewNodeByClass("vtkMRMLSliceNode")
    second.SetSliceToRASByNTP(*TILTED[:, 0], *TILTED[:, 1], *on, 0)
    press(views[0], volume, (12, 40, 40))  # the pointer is there now
    assert view_of(scene, on) is node


def test_gestures(volume, views):
    node = views[0].get_view_node()
    corners = [volumes.to_world(volume, [index])[0] for index in ((12, 30.2, 28.4), (12, 19.6, 40.0))]
    assert gestures.rectangle(volume, node, *corners) == Box((12, 20, 28), (13, 31, 41))
    assert gestures.click(volume, corners[0], positive=False).index == pytest.approx((12, 30.2, 28.4))
    assert not gestures.click(volume, corners[0], positive=False).positive
    stroke = gestures.scribble(volume, corners)
    assert np.allclose(stroke.points, [(12, 30.2, 28.4), (12, 19.6, 40.0)])
    x, y = pixel_of(views[0], corners[0])
    assert np.abs(volumes.to_index(volume, [gestures.world_of(node, x, y)])[0] - (12, 30.2, 28.4)).max() < 0.5
