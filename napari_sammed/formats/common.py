"""What all readers share."""

from __future__ import annotations

import contextlib
import os
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_sammed.errors import ChoiceError, InputError
from napari_sammed.geometry import Grid

_terminal = threading.RLock()  # two threads that swap stderr at once would lose it for good


class ImageWarning(UserWarning):
    """An image was read, but its file says something that the user should know."""


@dataclass(frozen=True)
class RawImage:
    """What a file holds: voxels (colour last, no opacity), their grid, DICOM's word for the modality, its DICOM files.

    `files` are those of the slices along the first axis, None where a missing one was filled in, or one file of all.
    """

    array: np.ndarray
    grid: Grid
    modality: str | None = None
    files: tuple[Path | None, ...] = ()


def warn(message: str) -> None:
    """Tell the user something about an image that was read all the same."""
    warnings.warn(message, ImageWarning, stacklevel=2)


def choose_frame(frame: int | None, count: int, path: Path) -> int:
    """The frame to read of a file with `count` of them; InputError if it must be chosen or does not exist."""
    if frame is None and count > 1:
        raise ChoiceError(
            f"{path} holds {count} frames (time points or channels): choose one with the option 'frame', "
            f"0 to {count - 1}.",
            "frame",
            range(count),
        )
    if not 0 <= (frame or 0) < count:
        raise InputError(f"{path} has no frame {frame}: there are {count}, counted from 0.")
    return frame or 0


def place(grid: Grid, path: Path) -> Grid:
    """Warn if a grid is one that many programs cannot store."""
    if not grid.is_orthogonal:
        warn(
            f"{path}: the axes are not perpendicular (a gantry tilt or a sheared matrix). Voxels keep their place; "
            "save masks as .nrrd or .mha, which can express it."
        )
    return grid


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Put the file's name before what is wrong with its geometry."""
    try:
        yield
    except InputError as error:
        raise error if str(path) in str(error) else InputError(f"{path}: {error}") from None


def put_in_place(finished: Path, path: Path) -> None:
    """Give a finished file its name at once, when its content has reached the disk; OSError if that cannot be."""
    with finished.open("r+b") as file:
        os.fsync(file.fileno())
    os.replace(finished, path)


def drop_opacity(array: np.ndarray) -> np.ndarray:
    """Grey or colour without its opacity, laid over black where it is not opaque (as napari shows it).

    Parameters
    ----------
    array : ndarray, (..., 1 to 4)
        Grey, grey and opacity, colour, or colour and opacity along the last axis.

    Returns
    -------
    ndarray, (...) or (..., 3)
    """
    channels = array.shape[-1]
    if channels in (2, 4):
        opacity, array = array[..., -1:], array[..., :-1]
        whole = array.dtype.kind in "iu"
        full = np.iinfo(array.dtype).max if whole else 1.0
        if not (opacity == full).all():
            faded = array * (opacity / full)
            array = (np.rint(faded) if whole else faded).astype(array.dtype)
    return array if array.shape[-1] == 3 else array[..., 0]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep ITK, and the C libraries under it that write to the terminal by themselves, from doing so.

    What goes wrong is raised as an exception all the same. Process-wide while it lasts.
    """
    import SimpleITK as sitk

    with _terminal:
        before = sitk.ProcessObject.GetGlobalWarningDisplay()
        sitk.ProcessObject.SetGlobalWarningDisplay(False)
        try:
            saved = os.dup(2)
        except OSError:  # a program without a terminal has nothing to keep quiet
            saved = None
        else:
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            if saved is not None:
                os.dup2(saved, 2)
                os.close(saved)
            sitk.ProcessObject.SetGlobalWarningDisplay(before)
