"""The objects of a session as files: one label image, or segments with all that is known of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from napari_sammed.backend.base import Prediction
from napari_sammed.backend.guards import MOST_HELD
from napari_sammed.backend.masks import span_of
from napari_sammed.errors import InputError
from napari_sammed.formats import ome_zarr, ome_zarr_labels
from napari_sammed.geometry import Box
from napari_sammed.segments import Segment, is_segmentation_name, write_segments
from napari_sammed.session.actions import ObjectState
from napari_sammed.session.history import History
from napari_sammed.session.records import BY_HAND
from napari_sammed.session.roster import painted
from napari_sammed.volume import Volume, write_mask

SLICER = ".seg.nrrd"
"""How the names of 3D Slicer's segmentations end: label images with the names and colours of the objects."""


def prepared(history: History, image: Volume, path: Path) -> Callable[[], None]:
    """What writes all objects of an image as they are now; the file name's ending says the format.

    A DICOM Segmentation (.dcm) has their names and who made them, and keeps overlaps; in label images the later of
    overlapping objects shows; of large images .zarr is the one that can be written. Writing takes long, and a history
    must be locked only while it is read.

    Raises
    ------
    InputError
        For label images that do not fit into memory; and when called, see `napari_sammed.volume.write_mask` and
        `napari_sammed.segments.write_segments`.
    """
    if is_segmentation_name(path):
        return partial(write_segments, segments_of(history), image, path)
    in_chunks = chunk_writer(history.stack, image, path)
    if in_chunks is not None:
        return in_chunks
    labels = history.labels(image.grid.box)
    if path.name.lower().endswith(SLICER):
        states = history.objects
        names = {label: state.name for label, state in states.items()}
        colours = {label: state.colour for label, state in states.items()}
        return partial(write_mask, labels, image.grid, path, names, colours=colours)
    return partial(write_mask, labels, image.grid, path)


def chunk_writer(stack: Sequence[ObjectState], image: Volume, path: Path) -> Callable[[], None] | None:
    """What writes objects, the topmost one last, without a label image of the whole; None if the format needs one.

    Raises
    ------
    InputError
        If the format needs one and it does not fit into memory.
    """
    if path.name.lower().endswith(ome_zarr.SUFFIX):
        names = {state.label: state.name for state in stack}
        where = span_of(state.mask for state in stack)
        return partial(ome_zarr_labels.write, partial(painted, stack), where, image.grid, path, names)
    size = 2 * math.prod(image.grid.shape)
    if not image.in_memory and size > MOST_HELD:
        raise InputError(
            f"A label image of {' x '.join(map(str, image.grid.shape))} voxels takes {size / 2**30:.0f} GiB: save as "
            ".ome.zarr, which stores only what is marked."
        )
    return None


def segments_of(history: History) -> list[Segment]:
    """The objects that have a mask, with what made them; where none has one, all objects, empty."""
    states = list(history.objects.values())
    segments = []
    for state in [state for state in states if state.mask is not None] or states:
        made = _maker(history, state.label)
        model, weights = ("", "") if made is None else (made.model, made.weights_hash)
        if state.mask is None:
            mask, box = np.zeros((1, 1, 1), bool), Box((0, 0, 0), (1, 1, 1))
        else:
            mask, box = state.mask.mask, state.mask.extent
        segments.append(Segment(state.name, mask, box, model, weights))
    return segments


def _maker(history: History, label: int) -> Prediction | None:
    """The latest answer of a model to the object since it was last cleared; None if it is all by hand."""
    for action in reversed(history.done):
        if action.label == label:
            answer = history.answers.get(action.id)
            if action.do == "clear":
                return None
            if answer is not None and answer.model != BY_HAND:
                return answer
    return None
