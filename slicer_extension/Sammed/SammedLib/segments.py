"""Writing masks into segments without harming their neighbours, and reading what is there.

Segments may share one label map, so nobody writes into arrays here: Slicer's own Segment Editor logic does (5.10 and
later), which minds masking, editable intensities, the overwrite mode and layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

import numpy as np
import slicer
import vtk
from vtk.util import numpy_support

from . import volumes

if TYPE_CHECKING:
    from napari_sammed.geometry import Box
    from napari_sammed.prompts import MaskPrompt

How: TypeAlias = Literal["add", "remove"]

EDITOR_TAG = "SammedSegmentEditor"
_DEFAULTS_SET = "Sammed.DefaultsSet"
_SAME_LATTICE = 1e-3  # voxels


class Target(Protocol):
    """Where changes of segments go through: the Segment Editor's logic, or one of its effects."""

    def save_state(self, segmentation: slicer.vtkMRMLSegmentationNode) -> None:
        """Let the editor's own undo come back to here; called once for each action of the user."""
        ...

    def modify(
        self,
        segmentation: slicer.vtkMRMLSegmentationNode,
        segment_id: str,
        labelmap: slicer.vtkOrientedImageData,
        how: How,
    ) -> None:
        """Add the voxels of a label map to a segment, or remove them, as masking and overwrite mode allow."""
        ...


class EditorLogic:
    """A `Target` of Slicer's Segment Editor logic, with a parameter node of its own.

    The node is the scene's singleton `EDITOR_TAG`; its masking, overwrite mode and editable intensities count. A new
    one leaves other segments alone (`OverwriteNone`).

    Parameters
    ----------
    scene : vtkMRMLScene
    volume : vtkMRMLVolumeNode
        For editable intensities.
    undo_states : int
        How many states the logic's own history keeps, each with copies of what has changed; 0 for none.

    Attributes
    ----------
    logic : vtkSlicerSegmentEditorLogic
    """

    def __init__(self, scene: slicer.vtkMRMLScene, volume: slicer.vtkMRMLVolumeNode, *, undo_states: int = 0) -> None:
        if not hasattr(slicer, "vtkSlicerSegmentEditorLogic"):
            from napari_sammed.errors import InputError

            raise InputError("Segments can be written safely with 3D Slicer 5.10 or later only: please update Slicer.")
        self._volume = volume
        self.logic = slicer.vtkSlicerSegmentEditorLogic()
        self.logic.SetMRMLScene(scene)
        self.logic.SetSegmentEditorNode(editor_node(scene))
        if undo_states:
            self.logic.SetMaximumNumberOfUndoStates(undo_states)
        else:
            self.logic.SetSegmentationHistory(None)

    @property
    def node(self) -> slicer.vtkMRMLSegmentEditorNode:
        """The parameter node, for masking and overwrite mode."""
        return self.logic.GetSegmentEditorNode()

    def save_state(self, segmentation: slicer.vtkMRMLSegmentationNode) -> None:
        self._attend_to(segmentation)
        self.logic.SaveStateForUndo()

    def modify(
        self,
        segmentation: slicer.vtkMRMLSegmentationNode,
        segment_id: str,
        labelmap: slicer.vtkOrientedImageData,
        how: How,
    ) -> None:
        self._attend_to(segmentation)
        self.node.SetSelectedSegmentID(segment_id)  # masks are made for the selected segment
        mode = self.logic.ModificationModeAdd if how == "add" else self.logic.ModificationModeRemove
        self.logic.ModifySegmentByLabelmap(segmentation, segment_id, labelmap, mode, True, False)

    def _attend_to(self, segmentation: slicer.vtkMRMLSegmentationNode) -> None:
        self.node.SetAndObserveSegmentationNode(segmentation)
        self.node.SetAndObserveSourceVolumeNode(self._volume)


def editor_node(scene: slicer.vtkMRMLScene) -> slicer.vtkMRMLSegmentEditorNode:
    """The scene's parameter node for what is written from here; made if there is none."""
    node = scene.GetSingletonNode(EDITOR_TAG, "vtkMRMLSegmentEditorNode")
    if node is None:
        node = slicer.vtkMRMLSegmentEditorNode()
        node.SetSingletonTag(EDITOR_TAG)
        node = scene.AddNode(node)
    if node.GetAttribute(_DEFAULTS_SET) is None:  # new, or reset when the scene was closed
        node.SetAttribute(_DEFAULTS_SET, "true")
        node.SetOverwriteMode(slicer.vtkMRMLSegmentEditorNode.OverwriteNone)
    return node


@dataclass(frozen=True)
class Edit:
    """What one write has changed, in all segments.

    Parameters
    ----------
    box : Box
        Where.
    before, after : dict of str to ndarray of bool
        Of each changed segment, by ID, its voxels in the box.
    """

    box: Box
    before: dict[str, np.ndarray]
    after: dict[str, np.ndarray]


class SegmentWriter:
    """Reads and writes the segments of one segmentation in index coordinates of one volume.

    Where the segmentation has the volume's voxels (its reference geometry is set so, if it has none), both are exact;
    else masks are resampled to the nearest voxel.

    Parameters
    ----------
    volume : vtkMRMLVolumeNode
    segmentation : vtkMRMLSegmentationNode
    target : Target
    """

    def __init__(
        self, volume: slicer.vtkMRMLVolumeNode, segmentation: slicer.vtkMRMLSegmentationNode, target: Target
    ) -> None:
        self.volume = volume
        self.segmentation = segmentation
        self.target = target
        columns, rows, slices = volume.GetImageData().GetDimensions()
        self._shape = (slices, rows, columns)
        _prepare(segmentation, volume)

    # ---- reading -------------------------------------------------------------------------------------------------

    @property
    def ids(self) -> tuple[str, ...]:
        """Segments, in order."""
        return tuple(self.segmentation.GetSegmentation().GetSegmentIDs())

    @property
    def exact(self) -> bool:
        """Whether the segmentation's voxels are those of the volume."""
        return self._offset(self._reference()) is not None

    def time(self, segment_id: str) -> int:
        """A number that grows when a segment's voxels change (or those of another one on the same layer)."""
        labelmap = self._labelmap(segment_id)
        return 0 if labelmap is None else labelmap.GetMTime()

    def extent(self, segment_id: str) -> Box | None:
        """A box around a segment's layer, inside of the volume; None if there is nothing."""
        from napari_sammed.geometry import Box

        labelmap = self._labelmap(segment_id)
        if labelmap is None or not labelmap.GetNumberOfPoints():
            return None
        offset = self._offset(labelmap)
        if offset is None:
            return Box.of_shape(self._shape)
        extent = np.reshape(labelmap.GetExtent(), (3, 2))[::-1] + offset[:, None]
        return Box(tuple(extent[:, 0]), tuple(extent[:, 1] + 1)).intersect(Box.of_shape(self._shape))

    def read(self, segment_id: str, box: Box) -> np.ndarray:
        """A segment's voxels inside a box of the volume, bool."""
        found = np.zeros(box.shape, bool)
        inside = self.extent(segment_id)
        inside = None if inside is None else inside.intersect(box)
        if inside is None:
            return found
        labelmap = self._labelmap(segment_id)
        value = self.segmentation.GetSegmentation().GetSegment(segment_id).GetLabelValue()
        offset = self._offset(labelmap)
        if offset is None:
            labelmap, offset = self._resampled(labelmap, inside), np.zeros(3, int)
        start = np.array(labelmap.GetExtent()[::2])[::-1] + offset
        part = inside.shift(-start)
        found[inside.shift([-low for low in box.low]).slices] = _array(labelmap)[part.slices] == value
        return found

    # ---- writing -------------------------------------------------------------------------------------------------

    def write(self, segment_id: str, box: Box, mask: np.ndarray) -> Edit | None:
        """Make a segment look like a mask inside a box, as far as the target allows; what has changed, if anything.

        Only the changed voxels are written: those to remove first, then those to add.

        Parameters
        ----------
        segment_id : str
        box : Box
        mask : ndarray of bool
            Of the box's shape.
        """
        from napari_sammed.geometry import Box

        current = self.read(segment_id, box)
        tight = Box.of_mask(current != mask)
        if tight is None:
            return None
        where = tight.shift(box.low)
        before = self._all(where)
        current, mask = current[tight.slices], mask[tight.slices]
        for voxels, how in ((current & ~mask, "remove"), (mask & ~current, "add")):
            part = Box.of_mask(voxels)
            if part is not None:
                labelmap = self._modifier(voxels[part.slices], part.shift(where.low))
                self.target.modify(self.segmentation, segment_id, labelmap, how)
        after = self._all(where)
        changed = [id_ for id_ in after if not np.array_equal(before[id_], after[id_])]
        if not changed:
            return None
        return Edit(where, {id_: before[id_] for id_ in changed}, {id_: after[id_] for id_ in changed})

    def put(self, box: Box, masks: dict[str, np.ndarray]) -> None:
        """Make segments look like masks inside a box whatever the target's masking says; others are left alone."""
        from napari_sammed.geometry import Box

        logic = slicer.vtkSlicerSegmentationsModuleLogic
        present = {segment_id: mask for segment_id, mask in masks.items() if segment_id in self.ids}
        current = {segment_id: self.read(segment_id, box) for segment_id in present}
        for how in ("remove", "add"):  # all removed first, so that no layer has to be split
            for segment_id, mask in present.items():
                voxels = current[segment_id] & ~mask if how == "remove" else mask & ~current[segment_id]
                part = Box.of_mask(voxels)
                if part is None:
                    continue
                labelmap = self._modifier(voxels[part.slices], part.shift(box.low))
                mode, others = logic.MODE_MERGE_MASK, ()
                if how == "remove":
                    mode = logic.MODE_MERGE_MIN
                    array = _array(labelmap)
                    array[:] = np.where(array > 0, 0, 255)  # more than any label value stays as it is
                    others = tuple(id_ for id_ in self.ids if id_ != segment_id)  # a minimum leaves them alone
                logic.SetBinaryLabelmapToSegment(labelmap, self.segmentation, segment_id, mode, None, False, others)

    # ---- inside --------------------------------------------------------------------------------------------------

    def _all(self, box: Box) -> dict[str, np.ndarray]:
        return {segment_id: self.read(segment_id, box) for segment_id in self.ids}

    def _labelmap(self, segment_id: str) -> slicer.vtkOrientedImageData | None:
        name = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
        segment = self.segmentation.GetSegmentation().GetSegment(segment_id)
        return None if segment is None else segment.GetRepresentation(name)

    def _index_to_local(self) -> np.ndarray:
        """From index coordinates of the volume, (i, j, k), to the segmentation's own coordinates."""
        matrix = volumes.index_to_world(self.volume)[:, [2, 1, 0, 3]]
        parent = self.segmentation.GetParentTransformNode()
        if parent is None:
            return matrix
        if not parent.IsTransformToWorldLinear():
            from napari_sammed.errors import InputError

            raise InputError(
                f"The segmentation {self.segmentation.GetName()} lies under the non-linear transform "
                f"{parent.GetName()}: take it out of it first."
            )
        from_world = vtk.vtkMatrix4x4()
        parent.GetMatrixTransformFromWorld(from_world)
        return slicer.util.arrayFromVTKMatrix(from_world) @ matrix

    def _reference(self) -> slicer.vtkOrientedImageData:
        """The reference geometry of the segmentation, without voxels."""
        geometry = slicer.vtkOrientedImageData()
        name = slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName()
        text = self.segmentation.GetSegmentation().GetConversionParameter(name)
        slicer.vtkSegmentationConverter.DeserializeImageGeometry(text, geometry, False)
        return geometry

    def _offset(self, image: slicer.vtkOrientedImageData) -> np.ndarray | None:
        """What to add to indices (k, j, i) of an image to get those of the volume; None on other voxels."""
        own = vtk.vtkMatrix4x4()
        image.GetImageToWorldMatrix(own)
        relative = np.linalg.solve(self._index_to_local(), slicer.util.arrayFromVTKMatrix(own))
        reach = max(self._shape)
        shift = relative[:3, 3].round()
        if np.abs(relative[:3, :3] - np.eye(3)).max() * reach > _SAME_LATTICE * 10:
            return None
        if np.abs(relative[:3, 3] - shift).max() > _SAME_LATTICE * 10:
            return None
        return shift[::-1].astype(int)

    def _modifier(self, voxels: np.ndarray, box: Box) -> slicer.vtkOrientedImageData:
        """Voxels as the label map that changes a segment, on the segmentation's reference geometry."""
        reference = self._reference()
        offset = self._offset(reference)
        matrix = vtk.vtkMatrix4x4()
        if offset is not None:
            reference.GetImageToWorldMatrix(matrix)  # masking wants exactly this geometry
            return _image(voxels, np.array(box.low) - offset, matrix)
        slicer.util.updateVTKMatrixFromArray(matrix, self._index_to_local())
        own = _image(voxels, np.array(box.low), matrix)
        moved = slicer.vtkOrientedImageData()
        slicer.vtkOrientedImageDataResample.ResampleOrientedImageToReferenceOrientedImage(own, reference, moved)
        return moved

    def _resampled(self, labelmap: slicer.vtkOrientedImageData, box: Box) -> slicer.vtkOrientedImageData:
        """A label map on other voxels as it looks on those of the volume inside a box."""
        matrix = vtk.vtkMatrix4x4()
        slicer.util.updateVTKMatrixFromArray(matrix, self._index_to_local())
        grid = _image(np.zeros(box.shape, bool), np.array(box.low), matrix)
        found = slicer.vtkOrientedImageData()
        slicer.vtkOrientedImageDataResample.ResampleOrientedImageToReferenceOrientedImage(labelmap, grid, found)
        return found


def _prepare(segmentation: slicer.vtkMRMLSegmentationNode, volume: slicer.vtkMRMLVolumeNode) -> None:
    """See that a segmentation has label maps, a geometry and a way to be shown."""
    core = segmentation.GetSegmentation()
    converter = slicer.vtkSegmentationConverter
    labelmap = converter.GetSegmentationBinaryLabelmapRepresentationName()
    if core.GetNumberOfSegments() == 0:
        core.SetSourceRepresentationName(labelmap)
    elif core.GetSourceRepresentationName() != labelmap:
        from napari_sammed.errors import InputError

        if not core.CreateRepresentation(labelmap):
            raise InputError(f"The segments of {segmentation.GetName()} cannot be made voxels: choose another one.")
        core.SetSourceRepresentationName(labelmap)
    if not core.GetConversionParameter(converter.GetReferenceImageGeometryParameterName()):
        if core.GetNumberOfSegments() == 0 and segmentation.GetTransformNodeID() is None:
            segmentation.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
        segmentation.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    if segmentation.GetScene() is not None:
        segmentation.CreateDefaultDisplayNodes()


def _image(voxels: np.ndarray, low: Sequence[int], matrix: vtk.vtkMatrix4x4) -> slicer.vtkOrientedImageData:
    """An oriented image of 0 and 1 whose first voxel has the index ``low`` (k, j, i)."""
    image = slicer.vtkOrientedImageData()
    image.SetGeometryFromImageToWorldMatrix(matrix)
    extent = [int(v) for lo, size in zip(low[::-1], voxels.shape[::-1], strict=True) for v in (lo, lo + size - 1)]
    image.SetExtent(extent)
    scalars = numpy_support.numpy_to_vtk(voxels.astype(np.uint8).ravel(), deep=True)
    image.GetPointData().SetScalars(scalars)
    return image


def _array(image: slicer.vtkOrientedImageData) -> np.ndarray:
    """The voxels of an image, (k, j, i), as a view."""
    columns, rows, slices = image.GetDimensions()
    return numpy_support.vtk_to_numpy(image.GetPointData().GetScalars()).reshape(slices, rows, columns)


def part_of(mask: MaskPrompt | None, box: Box) -> np.ndarray:
    """A mask's voxels inside a box."""
    part = np.zeros(box.shape, bool)
    common = None if mask is None else mask.extent.intersect(box)
    if common is not None:
        inside = mask.mask[common.shift([-low for low in mask.offset]).slices]
        part[common.shift([-low for low in box.low]).slices] = inside
    return part
