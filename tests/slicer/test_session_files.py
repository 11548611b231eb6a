"""Journals in Slicer's scenes are session files: what one viewer keeps, the other opens."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed: pip install 'napari-sammed[slicer]'")

import slicer
from SammedLib.journal_nodes import KIND, JournalNode

from napari_sammed.backend.local import LocalBackend
from napari_sammed.prompts import Point
from napari_sammed.session import Session
from napari_sammed.session.journal_files import import_objects, summary
from napari_sammed.session.records import replay
from tests.slicer.scenes import OBLIQUE, Face, add_volume, blobs, matrix
from tests.thresholder import Thresholder

INSIDE = (4, 5, 6)


def journal_node() -> JournalNode:
    (node,) = (
        node
        for node in slicer.mrmlScene.GetNodesByClass("vtkMRMLScriptedModuleNode")
        if node.GetAttribute("Sammed.Kind") == KIND
    )
    return JournalNode(node)


@pytest.fixture
def backend():
    backend = LocalBackend(models={"thresholder": Thresholder()})
    yield backend
    backend.shutdown()


def test_a_journal_of_slicer_is_a_session_file_and_back(application, scene, tmp_path, backend):
    face = Face()
    face.logic.open(add_volume(blobs(), matrix(OBLIQUE)))
    face.logic.next_segment("liver")
    face.logic.add(Point(INSIDE))
    face.wait()
    image = face.logic.session.session.image
    mask = face.logic.session.session.objects[1].mask
    face.logic.close()
    lines = journal_node().lines
    path = tmp_path / "slicer.sammed.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")

    found = summary(path)
    assert (found.image, found.names, found.shape) == (image.hash, ("liver",), image.grid.shape)
    assert replay(path, image, backend).mask(1) == mask
    with Session(image, backend, journal=path) as session:
        assert session.objects[1].mask == mask and len(session.objects[1].prompts) == 1
        session.model = "thresholder"
        session.new_object("lesion")
        session.add(Point((4, 8, 6))).result(30)
        labels = session.labels()
        import_objects(session, path)

    volume = slicer.mrmlScene.GetFirstNodeByName("CT")
    segmentation = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSegmentationNode")
    node = JournalNode.of(scene, volume, segmentation)
    node.clear()
    node.append(path.read_text(encoding="utf-8").splitlines())
    again = tmp_path / "again.jsonl"
    again.write_text("\n".join(node.lines) + "\n", encoding="utf-8")
    assert again.read_bytes() == path.read_bytes()
    with Session(image, backend, journal=again) as session:
        assert [state.name for state in session.objects.values()] == ["liver", "lesion", "liver", "lesion"]
        while len(session.objects) > 2:
            session.undo()
        np.testing.assert_array_equal(session.labels(), labels)
