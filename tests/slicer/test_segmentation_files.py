"""Label images that 3D Slicer opens as segmentations: with the names and colours of the objects."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed: pip install 'napari-sammed[slicer]'")

import slicer

from napari_sammed.backend.local import LocalBackend
from napari_sammed.prompts import MaskPrompt
from napari_sammed.session import Session
from tests.phantoms import two_balls


def test_slicer_reads_names_colours_and_masks(application, scene, tmp_path):
    image, first, second = two_balls()
    backend = LocalBackend(models={})
    with Session(image, backend) as session:
        session.take(MaskPrompt(first, (0, 0, 0)), "left kidney")
        session.take(MaskPrompt(second, (0, 0, 0)), "spleen")
        session.recolour(2, "#ff8000")
        session.save(tmp_path / "scan.seg.nrrd")
    backend.shutdown()
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    node.AddDefaultStorageNode()
    node.GetStorageNode().SetFileName(str(tmp_path / "scan.seg.nrrd"))
    assert node.GetStorageNode().ReadData(node)
    core = node.GetSegmentation()
    segments = [core.GetNthSegment(number) for number in range(core.GetNumberOfSegments())]
    assert [segment.GetName() for segment in segments] == ["left kidney", "spleen"]
    np.testing.assert_allclose(segments[1].GetColor(), (1, 128 / 255, 0), atol=1e-5)
    for number, mask in enumerate((first, second)):
        found = slicer.util.arrayFromSegmentInternalBinaryLabelmap(node, core.GetNthSegmentID(number))
        np.testing.assert_array_equal(found == segments[number].GetLabelValue(), mask)
