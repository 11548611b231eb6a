"""What the module and the Segment Editor effect share: volumes, markups and segments of a scene on one side, a
`napari_sammed.session.Session` on the other.

Files here import slicer, vtk, numpy and the standard library only; napari_sammed is imported when it is needed, so that
Slicer starts without it. `SammedLib.logic` is the way in.
"""
