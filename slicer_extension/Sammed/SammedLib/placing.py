"""Placing prompts with Slicer's own markups: which node is drawn in, and when a drawing is finished.

Points stay as long as the segment has them; they can be moved and deleted like any markup. Boxes and curves are taken
away again as soon as they have been understood, since the mask shows what came of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import slicer
import vtk

from . import volumes
from .texts import tr

if TYPE_CHECKING:
    from napari_sammed.prompts import Prompt

POINTS = {"positive": ("SAMMed +", (0.2, 0.9, 0.3)), "negative": ("SAMMed -", (0.95, 0.25, 0.2))}
"""Tools that place points: name and colour of their node."""

DRAWINGS = {
    "box": "vtkMRMLMarkupsROINode",
    "lasso": "vtkMRMLMarkupsClosedCurveNode",
    "stroke": "vtkMRMLMarkupsCurveNode",
    "erasing stroke": "vtkMRMLMarkupsCurveNode",
    "region": "vtkMRMLMarkupsROINode",
}
"""Tools whose drawing is one prompt, or a region to look closer at: class of their node."""

_COLOUR = (0.94, 0.89, 0.26)
_SAME = 1e-3  # mm
_ON_SLICE = 0.1  # mm


class Placer(Protocol):
    """Who is told what has been placed; always on the main thread."""

    def placed(self, node: slicer.vtkMRMLMarkupsNode, number: int, positive: bool) -> None:
        """A point has been placed."""

    def moved(self, node: slicer.vtkMRMLMarkupsNode, number: int, positive: bool) -> None:
        """A point has been dragged to another place."""

    def deleted(self, number: int, positive: bool) -> None:
        """A point has been deleted; it was the one of this number among those of its sign."""

    def drawn(self, tool: str, node: slicer.vtkMRMLMarkupsNode) -> None:
        """A drawing is finished; the node leaves the scene afterwards."""

    def put_down(self) -> None:
        """No tool is in hand any more."""


class Placing:
    """One tool at a time, for all views.

    Parameters
    ----------
    scene : vtkMRMLScene
    placer : Placer

    Attributes
    ----------
    tool : str
        A key of `POINTS` or `DRAWINGS`; empty while none is in hand.
    """

    def __init__(self, scene: slicer.vtkMRMLScene, placer: Placer) -> None:
        self.tool = ""
        self._scene = scene
        self._placer = placer
        self._points: dict[str, slicer.vtkMRMLMarkupsFiducialNode] = {}
        self._drawing: slicer.vtkMRMLMarkupsNode | None = None
        self._observed: list[tuple[Any, int]] = []
        self._muted = False
        node = interaction(scene)
        self._observe(node, node.InteractionModeChangedEvent, self._on_mode)

    def close(self) -> None:
        """Take everything that was placed out of the scene."""
        self.take("")
        for node, tag in self._observed:
            node.RemoveObserver(tag)
        self._observed = []
        for node in self._points.values():
            self._scene.RemoveNode(node)
        self._points = {}

    def take(self, tool: str) -> None:
        """Take a tool in hand, in place of the one that was; "" puts it down."""
        self._forget_drawing()
        self.tool = tool
        node = interaction(self._scene)
        if not tool:
            if node.GetCurrentInteractionMode() == node.Place:
                node.SetCurrentInteractionMode(node.ViewTransform)
            return
        target = self._point_node(tool) if tool in POINTS else self._new_drawing(tool)
        selection = self._scene.GetNodeByID("vtkMRMLSelectionNodeSingleton")
        selection.SetReferenceActivePlaceNodeClassName(target.GetClassName())
        selection.SetActivePlaceNodeID(target.GetID())
        # Many points, but one drawing: the view itself ends placing when the box or curve is done.
        node.SetPlaceModePersistence(1 if tool in POINTS else 0)
        node.SetCurrentInteractionMode(node.Place)

    def show(self, prompts: Sequence[Prompt], volume: slicer.vtkMRMLVolumeNode | None) -> None:
        """Make the points those of some prompts, without telling the placer."""
        from napari_sammed.prompts import Point

        for tool in POINTS:
            wanted = [p.index for p in prompts if isinstance(p, Point) and p.positive == (tool == "positive")]
            if not wanted and tool not in self._points:
                continue
            world = volumes.to_world(volume, np.array(wanted)) if wanted else np.zeros((0, 3))
            node = self._point_node(tool)
            numbers = _placed(node)
            now = np.array([node.GetNthControlPointPositionWorld(number) for number in numbers]).reshape(-1, 3)
            if now.shape == world.shape and np.allclose(now, world, atol=_SAME):
                continue  # as the user placed them: filling the node anew would take the preview under the pointer
            self._muted = True
            with slicer.util.NodeModify(node):
                node.RemoveAllControlPoints()
                for position in world:
                    node.AddControlPointWorld(vtk.vtkVector3d(*position))
            self._muted = False

    # ---- inside --------------------------------------------------------------------------------------------------

    def _point_node(self, tool: str) -> slicer.vtkMRMLMarkupsFiducialNode:
        known = self._points.get(tool)
        if known is not None and known.GetScene() is not None:
            return known
        name, colour = POINTS[tool]
        node = self._add("vtkMRMLMarkupsFiducialNode", name, colour)
        node.SetControlPointLabelFormat("%d")
        self._points[tool] = node
        positive = tool == "positive"

        # Previews under the pointer come and go, too, and are no points yet; events that were held back have no number.
        def placed(_: Any, __: str, number: int = -1) -> None:
            if not self._muted and number in _placed(node):
                self._placer.placed(node, number, positive)

        def moved(_: Any, __: str, number: int = -1) -> None:
            if not self._muted and number in _placed(node):
                self._placer.moved(node, number, positive)

        def deleting(_: Any, __: str, number: int = -1) -> None:
            if not self._muted and number in _placed(node):
                self._placer.deleted(_placed(node).index(number), positive)

        for event, heard in (
            (node.PointPositionDefinedEvent, placed),
            (node.PointEndInteractionEvent, moved),
            (node.PointAboutToBeRemovedEvent, deleting),
        ):
            heard.CallDataType = vtk.VTK_INT
            self._observe(node, event, heard)
        return node

    def _new_drawing(self, tool: str) -> slicer.vtkMRMLMarkupsNode:
        self._drawing = self._add(DRAWINGS[tool], tr("SAMMed drawing"), _COLOUR)
        return self._drawing

    def _add(self, kind: str, name: str, colour: Sequence[float]) -> slicer.vtkMRMLMarkupsNode:
        node = self._scene.AddNewNodeByClass(kind, name)
        node.SetSaveWithScene(False)  # the journal in the scene has all prompts
        node.CreateDefaultDisplayNodes()
        display = node.GetDisplayNode()
        if display is not None:
            display.SetSelectedColor(*colour)
            display.SetColor(*colour)
            display.SetPointLabelsVisibility(False)
            display.SetPropertiesLabelVisibility(False)
            display.SetGlyphScale(2)
        return node

    def _on_mode(self, node: slicer.vtkMRMLInteractionNode, _: str) -> None:
        if not self.tool or node.GetCurrentInteractionMode() == node.Place:
            return
        tool, drawing, self._drawing = self.tool, self._drawing, None
        self.tool = ""
        if drawing is not None and drawing.GetScene() is not None:
            if _finished(tool, drawing):
                self._placer.drawn(tool, drawing)
            self._scene.RemoveNode(drawing)
        self._placer.put_down()

    def _forget_drawing(self) -> None:
        drawing, self._drawing = self._drawing, None
        if drawing is not None and drawing.GetScene() is not None:
            self._scene.RemoveNode(drawing)

    def _observe(self, node: Any, event: int, heard: Callable[..., None]) -> None:
        self._observed.append((node, node.AddObserver(event, heard)))


def interaction(scene: slicer.vtkMRMLScene) -> slicer.vtkMRMLInteractionNode:
    """The node that says what a press of the mouse means."""
    return scene.GetNodeByID("vtkMRMLInteractionNodeSingleton")


def view_of(scene: slicer.vtkMRMLScene, world: Sequence[float]) -> slicer.vtkMRMLSliceNode | None:
    """The slice view that something was placed in: whose slice holds it, and among several the one under the pointer.

    None for what was placed in 3D, or by a script.
    """
    crosshair = scene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
    under = None if crosshair is None else crosshair.GetCursorPositionXYZ([0.0, 0.0, 0.0])
    holding = [view for view in scene.GetNodesByClass("vtkMRMLSliceNode") if _distance(view, world) < _ON_SLICE]
    return under if under in holding else next(iter(holding), None)


def placed_before(node: slicer.vtkMRMLMarkupsNode, number: int) -> int:
    """How many control points before one of them have a position: its place among the prompts of its sign."""
    return sum(other < number for other in _placed(node))


def _distance(view: slicer.vtkMRMLSliceNode, world: Sequence[float]) -> float:
    """From a position to the slice that a view shows, mm."""
    matrix = slicer.util.arrayFromVTKMatrix(view.GetSliceToRAS())
    return float(abs((np.asarray(world) - matrix[:3, 3]) @ matrix[:3, 2]))


def _placed(node: slicer.vtkMRMLMarkupsNode) -> list[int]:
    """Numbers of the control points that have a position, without the preview under the pointer."""
    defined = slicer.vtkMRMLMarkupsNode.PositionDefined
    return [n for n in range(node.GetNumberOfControlPoints()) if node.GetNthControlPointPositionStatus(n) == defined]


def _finished(tool: str, node: slicer.vtkMRMLMarkupsNode) -> bool:
    """Whether enough was drawn before placing ended, by Escape perhaps."""
    if DRAWINGS[tool] == "vtkMRMLMarkupsROINode":
        return any(node.GetSize())
    return len(_placed(node)) >= (3 if tool == "lasso" else 1)
