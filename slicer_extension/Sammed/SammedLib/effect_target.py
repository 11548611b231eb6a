"""Writing segments through an effect of the Segment Editor: its masking, its overwrite mode, its undo."""

from __future__ import annotations

from typing import Any

import slicer

from .segments import How


class EffectTarget:
    """A `SammedLib.segments.Target`.

    Parameters
    ----------
    effect : qSlicerSegmentEditorScriptedEffect
    modes : mapping of {"add", "remove"} to int
        The effect's modification modes.
    """

    def __init__(self, effect: Any, modes: dict[How, int]) -> None:
        self._effect = effect
        self._modes = modes

    def save_state(self, segmentation: slicer.vtkMRMLSegmentationNode) -> None:
        # An answer may come when another segmentation is being edited: that one's undo has nothing to do with it.
        if self._effect.parameterSetNode().GetSegmentationNode() is segmentation:
            self._effect.saveStateForUndo()

    def modify(
        self,
        segmentation: slicer.vtkMRMLSegmentationNode,
        segment_id: str,
        labelmap: slicer.vtkOrientedImageData,
        how: How,
    ) -> None:
        node = self._effect.parameterSetNode()
        selected = node.GetSelectedSegmentID()
        node.SetSelectedSegmentID(segment_id)  # masks are made for the selected segment
        try:
            self._effect.modifySegmentByLabelmap(segmentation, segment_id, labelmap, self._modes[how])
        finally:
            node.SetSelectedSegmentID(selected)
