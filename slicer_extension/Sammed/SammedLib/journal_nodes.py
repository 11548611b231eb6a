"""Journals of sessions in the scene, so that a saved scene comes back with its prompts and can go on.

One script node a pair of volume and segmentation holds the lines of the session's journal
(`napari_sammed.session.journal`), one parameter a line, so that another line costs nothing but itself, and which
segment each of the session's objects is.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

import slicer

KIND = "SammedJournal"
"""Value of the attribute "Sammed.Kind" of these nodes."""

FORMAT = "1"


class JournalNode:
    """The journal about one volume and one segmentation.

    Parameters
    ----------
    node : vtkMRMLScriptedModuleNode
    """

    def __init__(self, node: slicer.vtkMRMLScriptedModuleNode) -> None:
        self.node = node

    @classmethod
    def of(
        cls, scene: slicer.vtkMRMLScene, volume: slicer.vtkMRMLVolumeNode, segmentation: slicer.vtkMRMLSegmentationNode
    ) -> JournalNode:
        """The one in the scene, or a new and empty one."""
        for node in scene.GetNodesByClass("vtkMRMLScriptedModuleNode"):
            if (
                node.GetAttribute("Sammed.Kind") == KIND
                and node.GetParameter("format") == FORMAT  # those of the future are left for whoever can read them
                and node.GetNodeReference("volume") is volume
                and node.GetNodeReference("segmentation") is segmentation
            ):
                return cls(node)
        node = slicer.vtkMRMLScriptedModuleNode()
        node.SetName(f"Prompts of {segmentation.GetName()}")
        node.SetAttribute("Sammed.Kind", KIND)
        node.SetHideFromEditors(True)
        node = scene.AddNode(node)
        node.SetNodeReferenceID("volume", volume.GetID())
        node.SetNodeReferenceID("segmentation", segmentation.GetID())
        made = cls(node)
        made.clear()
        return made

    @property
    def lines(self) -> list[str]:
        """Lines of the journal, the header first; empty if there are none."""
        return [self.node.GetParameter(f"line{number}") for number in range(self._count)]

    def append(self, lines: Iterable[str]) -> None:
        """Keep further lines."""
        count = self._count
        with slicer.util.NodeModify(self.node):
            for line in lines:
                self.node.SetParameter(f"line{count}", line)
                count += 1
            self.node.SetParameter("count", str(count))

    def clear(self) -> None:
        """Forget everything."""
        with slicer.util.NodeModify(self.node):
            self.node.UnsetAllParameters()
            self.node.SetParameter("format", FORMAT)
            self.node.SetParameter("count", "0")

    @property
    def segments(self) -> dict[int, str]:
        """Segment IDs by label of the session's objects."""
        return {int(label): segment for label, segment in self._json("segments").items()}

    @segments.setter
    def segments(self, segments: dict[int, str]) -> None:
        self._put_json("segments", segments)

    @property
    def together(self) -> dict[int, int]:
        """Of actions of the session that belong to another one, both numbers."""
        return {int(part): int(whole) for part, whole in self._json("together").items()}

    @together.setter
    def together(self, together: dict[int, int]) -> None:
        self._put_json("together", together)

    @property
    def _count(self) -> int:
        return int(self.node.GetParameter("count") or 0)

    def _json(self, name: str) -> dict[str, object]:
        return json.loads(self.node.GetParameter(name) or "{}")

    def _put_json(self, name: str, value: dict[int, object]) -> None:
        text = json.dumps({str(key): item for key, item in value.items()})
        if text != self.node.GetParameter(name):
            self.node.SetParameter(name, text)
