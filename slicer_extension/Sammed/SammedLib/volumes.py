"""From a volume node to the image that napari-sammed segments, and from its voxels to the world and back.

Index coordinates are in array order, ``(k, j, i)``; the world of a scene is RAS in mm, that of napari-sammed LPS.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import slicer
import vtk

if TYPE_CHECKING:
    from napari_sammed.volume import Volume

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_REVERSED = np.eye(4)[[2, 1, 0, 3]]  # from (k, j, i) to (i, j, k), and back
_HOW_TO_HARDEN = "harden the transform (right-click in the Data module) or take the volume out of it first"


def volume_of(node: slicer.vtkMRMLVolumeNode) -> Volume:
    """The image of a volume node, as it lies in the world.

    Parameters
    ----------
    node : vtkMRMLVolumeNode
        Grey, or colour with three or four components (red, green, blue, opacity). Volumes of one slice keep their
        three axes, as files of one slice do.

    Returns
    -------
    Volume
        With a copy of the voxels, which other threads may read while the scene goes on.

    Raises
    ------
    InputError
        For a volume without voxels, a label map, other vectors than colours, a non-linear parent transform.
    """
    from napari_sammed.errors import InputError
    from napari_sammed.geometry import Grid
    from napari_sammed.volume import Volume

    check_kind(node)
    affine = RAS_TO_LPS @ index_to_world(node)
    array = slicer.util.arrayFromVolume(node)
    if array.ndim == 4 and array.shape[-1] in (3, 4):
        array = array[..., :3]
    elif array.ndim == 4:
        raise InputError(
            f"{node.GetName()} has {array.shape[-1]} values at each voxel: choose a grey or an RGB volume."
        )
    return Volume(array.copy(), Grid.from_affine(array.shape[:3], affine), node.GetName(), _modality(node))


def check_kind(node: slicer.vtkMRMLVolumeNode | None) -> None:
    """Refuse what is not an image, in one sentence."""
    from napari_sammed.errors import InputError

    if node is None:
        raise InputError("There is no volume to segment: choose one first.")
    name = node.GetName()
    if isinstance(node, slicer.vtkMRMLLabelMapVolumeNode):
        raise InputError(f"{name} is a label map: choose the image that it was drawn on.")
    image = node.GetImageData()
    if image is None or not image.GetNumberOfPoints():
        raise InputError(f"The volume {name} has no voxels.")
    if image.GetPointData().GetScalars() is None:
        raise InputError(f"{name} has no grey values or colours: choose a scalar or an RGB volume.")


def index_to_world(node: slicer.vtkMRMLVolumeNode) -> np.ndarray:
    """Homogeneous matrix (4, 4) from index coordinates (k, j, i) of a volume to the world in RAS mm.

    Linear parent transforms are included.

    Raises
    ------
    InputError
        For a non-linear parent transform: the volume is bent then, and no matrix says where its voxels are.
    """
    from napari_sammed.errors import InputError

    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    ijk_to_world = slicer.util.arrayFromVTKMatrix(matrix)
    parent = node.GetParentTransformNode()
    if parent is not None:
        if not parent.IsTransformToWorldLinear():
            raise InputError(
                f"The volume {node.GetName()} lies under the non-linear transform {parent.GetName()}: {_HOW_TO_HARDEN}."
            )
        parent.GetMatrixTransformToWorld(matrix)
        ijk_to_world = slicer.util.arrayFromVTKMatrix(matrix) @ ijk_to_world
    return ijk_to_world @ _REVERSED


def to_index(node: slicer.vtkMRMLVolumeNode, world: np.ndarray) -> np.ndarray:
    """Index coordinates (N, 3), in the order (k, j, i) and not rounded, of world positions (N, 3) in RAS mm."""
    matrix = index_to_world(node)
    return np.linalg.solve(matrix[:3, :3], (np.atleast_2d(np.asarray(world, float)) - matrix[:3, 3]).T).T


def to_world(node: slicer.vtkMRMLVolumeNode, index: np.ndarray) -> np.ndarray:
    """World positions (N, 3) in RAS mm of index coordinates (N, 3)."""
    matrix = index_to_world(node)
    return np.atleast_2d(np.asarray(index, float)) @ matrix[:3, :3].T + matrix[:3, 3]


def axis_across(node: slicer.vtkMRMLVolumeNode, slice_node: slicer.vtkMRMLSliceNode) -> int:
    """The array axis of a volume that runs most nearly across the slices which a slice view shows."""
    normal = slicer.util.arrayFromVTKMatrix(slice_node.GetSliceToRAS())[:3, 2]
    steps = index_to_world(node)[:3, :3]
    return int(np.argmax(np.abs(normal @ (steps / np.linalg.norm(steps, axis=0)))))


def slice_shown(node: slicer.vtkMRMLVolumeNode, slice_node: slicer.vtkMRMLSliceNode) -> tuple[int, int]:
    """Array axis and index of the slice of a volume that lies in the middle of a slice view."""
    from napari_sammed.geometry import nearest_voxel

    axis = axis_across(node, slice_node)
    centre = slicer.util.arrayFromVTKMatrix(slice_node.GetSliceToRAS())[:3, 3]
    return axis, int(nearest_voxel(to_index(node, centre)[0])[axis])


class State:
    """What a volume's voxels and sizes are, to tell later whether they have changed; moving it does not count."""

    def __init__(self, node: slicer.vtkMRMLVolumeNode) -> None:
        self._image = node.GetImageData()
        self._time = self._scalars_time(node)
        self._spacing = self._lengths(node)

    def holds(self, node: slicer.vtkMRMLVolumeNode) -> bool:
        """Whether the node still has these voxels, at these distances."""
        return self.same_voxels(node) and np.allclose(self._lengths(node), self._spacing, rtol=1e-5)

    def same_voxels(self, node: slicer.vtkMRMLVolumeNode) -> bool:
        """Whether the node still has these voxels, wherever and however large they are."""
        image = node.GetImageData()
        return image is not None and image is self._image and self._scalars_time(node) == self._time

    @staticmethod
    def _scalars_time(node: slicer.vtkMRMLVolumeNode) -> int:
        return node.GetImageData().GetPointData().GetScalars().GetMTime()

    @staticmethod
    def _lengths(node: slicer.vtkMRMLVolumeNode) -> np.ndarray:
        """Lengths of the voxel's edges and the angles between them: what a rigid movement leaves alone."""
        steps = index_to_world(node)[:3, :3]
        return steps.T @ steps


def _modality(node: slicer.vtkMRMLVolumeNode) -> str | None:
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(node.GetScene()) if node.GetScene() else None
    item = hierarchy.GetItemByDataNode(node) if hierarchy is not None else 0
    return (hierarchy.GetItemAttribute(item, "DICOM.Modality") or None) if item else None
