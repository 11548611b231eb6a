"""New segments, with the terminology and colour that belong to their names."""

from __future__ import annotations

import contextlib

import slicer
import vtk

_COLOURS = (  # Okabe and Ito (2008): told apart with colour-blindness, too
    (0.90, 0.62, 0.00),
    (0.34, 0.71, 0.91),
    (0.00, 0.62, 0.45),
    (0.94, 0.89, 0.26),
    (0.00, 0.45, 0.70),
    (0.84, 0.37, 0.00),
    (0.80, 0.47, 0.65),
)


def add_segment(segmentation: slicer.vtkMRMLSegmentationNode, name: str = "", segment_id: str = "") -> str:
    """Add an empty segment; returns its ID.

    Parameters
    ----------
    segmentation : vtkMRMLSegmentationNode
    name : str
        An anatomical name that Slicer's terminologies know ("liver", "left kidney") brings their code and colour;
        others get the next of seven colours. Empty for the next number.
    segment_id : str
        Wanted ID; empty for the next free one.
    """
    core = segmentation.GetSegmentation()
    count = core.GetNumberOfSegments()
    entry = terminology(name) if name else None
    colour = _COLOURS[count % len(_COLOURS)]
    if entry is not None:
        modifier = entry.GetTypeModifierObject()
        kind = modifier if modifier.GetCodeMeaning() else entry.GetTypeObject()
        recommended = kind.GetRecommendedDisplayRGBValue()
        if any(value != 127 for value in recommended):  # terminologies say 127 three times where they have no colour
            colour = tuple(value / 255 for value in recommended)
    added = core.AddEmptySegment(segment_id, name or f"Segment_{count + 1}", colour)
    if entry is not None:
        text = slicer.vtkSlicerTerminologiesModuleLogic.SerializeTerminologyEntry(entry)
        core.GetSegment(added).SetTerminology(text)
    return added


def terminology(name: str) -> slicer.vtkSlicerTerminologyEntry | None:
    """What the loaded terminologies know under a name as Slicer writes it, in any case; None if nothing."""
    with contextlib.suppress(AttributeError):  # the module of terminologies can be missing
        logic = slicer.modules.terminologies.logic()
        contexts = vtk.vtkStringArray()
        logic.GetLoadedTerminologyNames(contexts)
        entry = slicer.vtkSlicerTerminologyEntry()
        for number in range(contexts.GetNumberOfValues()):
            for label in dict.fromkeys((name, name.lower())):
                if logic.FindTypeInTerminologyBy3dSlicerLabel(contexts.GetValue(number), label, entry):
                    return entry
    return None
