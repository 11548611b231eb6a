"""DICOM series as volumes, through SimpleITK's GDCM (compressed ones too: JPEG, JPEG-LS, JPEG 2000, RLE).

A series is sorted by where its slices lie, not by name or number. What is done about irregular ones:

- missing slices (gaps that are whole multiples of the slice distance) are filled by interpolation between their
  neighbours, with a warning that says where: so every slice that exists keeps its true place;
- slices at irregular distances, of different orientation (localizers) or size are refused;
- a gantry tilt is kept as it is, in a grid whose axes are not perpendicular, with a warning;
- several images at each place (time points, echoes) are frames, of which one is asked for.

A DICOM Segmentation is a label image on the grid of its slices (`napari_sammed.formats.seg_reading`); beside the images
of a folder it is passed over. One file of several frames is a stack of them. The result always has three axes, an X-ray
one slice.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from napari_sammed.errors import InputError
from napari_sammed.formats.common import RawImage, choose_frame, drop_opacity, naming, place, quiet, warn
from napari_sammed.formats.dicom_headers import Slice, choose_series, is_segmentation, read_header, scan
from napari_sammed.geometry import Grid

_EVEN = 0.1  # how far, in slice distances, a slice may lie from its regular place
_SAME = 0.01  # mm within which two slices are at the same place
_TILT = 0.1  # pixels by which a stack may lean before it counts as tilted


def read_dicom(path: Path, frame: int | None = None, series: str | None = None) -> RawImage:
    """Read the series of a folder, or the one that a file belongs to.

    Raises
    ------
    InputError
        If there is no DICOM, if there are several series and none was chosen, or if the slices make no volume.
    """
    if path.is_dir():
        slices = choose_series(scan(path), series, path)
    elif is_segmentation(path):
        from napari_sammed.formats.seg_reading import read_labels

        choose_frame(frame, 1, path)
        return read_labels(path)
    else:
        own = read_header(path)
        if own is None:
            raise InputError(f"{path} cannot be read as DICOM: it is damaged, incomplete or holds no image.")
        alone = own.frames > 1 or not own.series
        slices = [own] if alone else [s for s in scan(path.parent) if s.series == own.series]
    with naming(path):
        if len(slices) == 1:
            return _single(slices[0], frame, path)
        _check_alike(slices, path)
        return _stack(slices, frame, path)


def _check_alike(slices: list[Slice], path: Path) -> None:
    first = slices[0]
    for item in slices[1:]:
        if item.frames > 1 or first.frames > 1:
            raise InputError(f"{path} holds {len(slices)} files of several frames each: name one of the files.")
        if item.size != first.size:
            raise InputError(f"{item.path.name} has {item.size[:2]} pixels, {first.path.name} {first.size[:2]}.")
        if not np.allclose(item.spacing[:2], first.spacing[:2], rtol=1e-3):
            raise InputError(
                f"{item.path.name} has pixels of {item.spacing[:2]} mm, {first.path.name} {first.spacing[:2]} mm."
            )
        if np.abs(item.direction - first.direction).max() > 1e-3:
            raise InputError(
                f"The slices differ in orientation ({first.path.name} and {item.path.name}): "
                "is there a localizer among them? Keep the slices of one plane."
            )


def _single(item: Slice, frame: int | None, path: Path) -> RawImage:
    choose_frame(frame, 1, path)
    grid = Grid.from_itk(item.size, item.spacing, item.origin, item.direction.ravel())
    return RawImage(_pixels(item), grid, item.modality, (item.path,))


def _stack(slices: list[Slice], frame: int | None, path: Path) -> RawImage:
    """Sort, choose the frame, find the slice distance, fill what is missing."""
    first = slices[0]
    if not all(item.placed for item in slices):
        slices = sorted(slices, key=lambda item: item.number)
        step = first.distance or 1.0
        warn(f"{path}: the slices do not say where they lie; stacked by number, {step:g} mm apart.")
        spacing = (*first.spacing[:2], step)
        grid = Grid.from_itk((*first.size[:2], len(slices)), spacing, first.origin, first.direction.ravel())
        files = tuple(item.path for item in slices)
        return RawImage(np.concatenate([_pixels(item) for item in slices]), grid, first.modality, files)

    normal = first.direction[:, 2]
    slices = sorted(slices, key=lambda item: (float(item.origin @ normal), item.number))
    groups: list[list[Slice]] = []
    for item in slices:
        if groups and abs((item.origin - groups[-1][0].origin) @ normal) < _SAME:
            groups[-1].append(item)
        else:
            groups.append([item])
    counts = {len(group) for group in groups}
    if len(counts) > 1:
        raise InputError(
            f"Some places of the series hold {max(counts)} images and others {min(counts)}: "
            "it is several scans in one, or files are missing or doubled."
        )
    chosen = choose_frame(frame, counts.pop(), path)
    slices = [group[chosen] for group in groups]
    if len(slices) == 1:
        return _single(slices[0], None, path)

    origins = np.array([item.origin for item in slices])
    places = _places(origins @ normal, path)
    count = places[-1] + 1
    step = (origins[-1] - origins[0]) / places[-1]
    _check_straight(slices, origins, places, step, path)
    distance = float(np.linalg.norm(step))
    if np.linalg.norm(step - (step @ normal) * normal) * places[-1] > _TILT * min(first.spacing[:2]):
        columns = np.column_stack([first.direction[:, :2], step / distance])
    else:
        columns, distance = first.direction, float(step @ normal)
    grid = Grid.from_itk((*first.size[:2], count), (*first.spacing[:2], distance), origins[0], columns.ravel())
    array = _fill([_pixels(item)[0] for item in slices], places, path)
    there = {int(number): item.path for number, item in zip(places, slices, strict=True)}
    return RawImage(array, place(grid, path), first.modality, tuple(there.get(number) for number in range(count)))


def _places(depths: np.ndarray, path: Path) -> np.ndarray:
    """The number of each slice in the regular stack; more than the slices there are where some are missing."""
    gaps = np.diff(depths)
    step = float(np.median(gaps[gaps < 1.5 * gaps.min()]))
    places = np.rint((depths - depths[0]) / step).astype(int)
    step = float(np.polyfit(places, depths, 1)[0])
    off = np.abs(depths - depths[0] - places * step) / step
    if off.max() > _EVEN or np.diff(places).min() < 1:
        worst = int(np.argmax(np.abs(gaps - np.rint(gaps / step) * step)))
        raise InputError(
            f"The slices lie at irregular distances: {gaps[worst]:.2f} mm between slices {worst} and {worst + 1}, "
            f"where {step:.2f} mm are usual. Resample the series to even distances first."
        )
    missing = np.setdiff1d(np.arange(places[-1] + 1), places)
    if len(missing) > len(places):
        raise InputError(f"{len(missing)} slices are missing between the {len(places)} that are there.")
    if len(missing):
        where = ", ".join(f"{depths[0] + i * step:.1f}" for i in missing[:5])
        more = ", ..." if len(missing) > 5 else ""
        numbers = ", ".join(map(str, missing[:5]))
        warn(
            f"{path}: {len(missing)} of {places[-1] + 1} slices are missing "
            f"(index {numbers}{more}; at {where}{more} mm along the stack). "
            "They were filled in from their neighbours: do not trust what is seen there."
        )
    return places


def _check_straight(
    slices: Sequence[Slice], origins: np.ndarray, places: np.ndarray, step: np.ndarray, path: Path
) -> None:
    """Refuse stacks whose slices wander sideways; a steady lean (gantry tilt) passes."""
    normal = slices[0].direction[:, 2]
    off = origins - origins[0] - places[:, None] * step
    off -= np.outer(off @ normal, normal)
    worst = int(np.argmax(np.linalg.norm(off, axis=1)))
    if np.linalg.norm(off[worst]) > max(slices[0].spacing[:2]):
        raise InputError(
            f"The slices do not lie in one straight stack: {slices[worst].path.name} is "
            f"{np.linalg.norm(off[worst]):.1f} mm beside its place. Is this a scan with a moving table?"
        )


def _fill(images: list[np.ndarray], places: np.ndarray, path: Path) -> np.ndarray:
    """Stack slices at their places; the missing ones lie on the line between their neighbours."""
    kind = np.result_type(*images)
    stack = np.empty((places[-1] + 1, *images[0].shape), kind)
    for place_, image in zip(places, images, strict=True):
        stack[place_] = image
    for below, above in itertools.pairwise(places):
        for between in range(below + 1, above):
            part = (between - below) / (above - below)
            filled = (1 - part) * stack[below].astype(float) + part * stack[above]
            stack[between] = np.rint(filled) if kind.kind in "iu" else filled
    return stack


def _pixels(item: Slice) -> np.ndarray:
    """Voxels of a file in its own units (Hounsfield for CT), (frames, y, x) or (frames, y, x, 3)."""
    import SimpleITK as sitk

    try:
        with quiet():
            image = sitk.ReadImage(str(item.path), imageIO="GDCMImageIO")
    except RuntimeError:
        raise InputError(f"{item.path} is damaged, incomplete, or compressed in an unknown way.") from None
    array = sitk.GetArrayFromImage(image)
    if array.dtype == np.int32 and array.min() >= -32768 and array.max() <= 32767:
        array = array.astype(np.int16)  # GDCM makes room for all that 16 bits and an offset might hold
    return drop_opacity(array) if image.GetNumberOfComponentsPerPixel() > 1 else array
