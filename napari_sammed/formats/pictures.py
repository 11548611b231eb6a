"""Pictures: PNG, JPEG, BMP through Pillow, TIFF through tifffile.

ITK reads truncated ones without a word and gets palettes, CMYK and grey with opacity wrong. A picture has two axes, a
file of several pages is a stack of them. Resolution tags say how large to print, not how large the anatomy is: the
spacing is always 1, the place in the world none.
"""

from __future__ import annotations

import logging
import math
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_sammed.errors import InputError
from napari_sammed.formats.common import RawImage, choose_frame, drop_opacity, quiet, warn
from napari_sammed.geometry import Grid

if TYPE_CHECKING:
    import tifffile
    from PIL import Image

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
_PACKED, _UNLIKELY = 10_000, 1 << 26  # times its file that a picture may unpack to, and what it may in any case
_COLOURS = {"P": "RGBA", "PA": "RGBA", "CMYK": "RGB", "YCbCr": "RGB", "LAB": "RGB", "HSV": "RGB", "1": "L", "La": "LA"}


def read_picture(path: Path, frame: int | None = None) -> RawImage:
    """Read a picture or a stack of pages, grey or colour.

    Raises
    ------
    InputError
        If it is damaged, incomplete, or not of its kind.
    """
    is_tiff = path.suffix.lower() in (".tif", ".tiff")
    try:
        array, colour = _read_tiff(path, frame) if is_tiff else _read_pillow(path)
    except InputError:
        raise
    except Exception as error:  # decoders raise whatever comes to their mind on damaged files
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise InputError(f"{path} cannot be read as a picture ({reason}).") from None
    if not is_tiff:
        choose_frame(frame, 1, path)
    if colour:
        array = drop_opacity(array)
        return RawImage(array, Grid.plain(array.shape[:-1] if array.shape[-1] == 3 else array.shape))
    return RawImage(array, Grid.plain(array.shape))


def _read_pillow(path: Path) -> tuple[np.ndarray, bool]:
    """All pages, and whether the last axis is colour."""
    from PIL import Image

    if _is_deep_colour_png(path):  # Pillow would cut it to 8 bits
        import SimpleITK as sitk

        with quiet():
            return sitk.GetArrayFromImage(sitk.ReadImage(str(path), imageIO="PNGImageIO")), True
    with Image.open(path) as image:
        count = getattr(image, "n_frames", 1) if image.format == "TIFF" else 1
        pages = []
        for page in range(count):
            image.seek(page)
            pages.append(_pillow_page(image))
    if len({p.shape for p in pages}) > 1:
        warn(f"{path} holds pages of different sizes: only the first was read.")
        pages = pages[:1]
    colour = pages[0].ndim == 3
    return np.stack(pages) if count > 1 else pages[0], colour


def _pillow_page(image: Image.Image) -> np.ndarray:
    mode = _COLOURS.get(image.mode, image.mode)
    if image.mode == "P" and "transparency" not in image.info:
        mode = "RGB"
    page = np.asarray(image.convert(mode) if mode != image.mode else image)
    if mode == "RGB" and image.mode == "P" and (page == page[..., :1]).all():
        return page[..., 0].copy()  # a grey palette
    return page.copy()


def _is_deep_colour_png(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(26)
    return start[:4] == b"\x89PNG" and len(start) == 26 and start[24] == 16 and start[25] in (2, 6)


def _read_tiff(path: Path, frame: int | None) -> tuple[np.ndarray, bool]:
    """The chosen stack of pages, and whether the last axis is colour."""
    import tifffile

    logging.getLogger("tifffile").addFilter(_drop)
    try:
        with tifffile.TiffFile(path) as file:
            _check_complete(file, path)
            series = file.series[0]
            if len(file.series) > 1:
                warn(f"{path} holds {len(file.series)} images of different sizes: only the first was read.")
            if series.nbytes > max(_UNLIKELY, _PACKED * path.stat().st_size):
                raise InputError(
                    f"{path} claims {series.nbytes / 2**30:.1f} GiB of pixels in a file of "
                    f"{path.stat().st_size:,} bytes: it is damaged."
                )
            try:
                array = series.asarray()
            except ValueError as error:
                if "imagecodecs" not in str(error):
                    raise
                with quiet():
                    return _read_pillow(path)  # compressions that tifffile does not bring along
            if array.dtype == bool:
                array = array.astype(np.uint8) * 255  # bitmaps: black and white
            page = series.keyframe
            array, axes = _squeeze(array, series.axes)
            if page.photometric == tifffile.PHOTOMETRIC.PALETTE and page.colormap is not None:
                array, axes = np.moveaxis((page.colormap >> 8).astype(np.uint8)[:, array], 0, -1), axes + "S"
            elif page.photometric == tifffile.PHOTOMETRIC.MINISWHITE and array.dtype.kind == "u":
                array = ~array
            return _pick(array, axes, frame, path)
    finally:
        logging.getLogger("tifffile").removeFilter(_drop)


def _drop(record: logging.LogRecord) -> bool:
    """Log filter: what tifffile remarks on damaged files is raised here as an error."""
    return False


def _squeeze(array: np.ndarray, axes: str) -> tuple[np.ndarray, str]:
    keep = [i for i, (name, size) in enumerate(zip(axes, array.shape, strict=True)) if size > 1 or name in "YX"]
    return array.reshape([array.shape[i] for i in keep]), "".join(axes[i] for i in keep)


def _pick(array: np.ndarray, axes: str, frame: int | None, path: Path) -> tuple[np.ndarray, bool]:
    """Order axes as frames, stack, y, x, colour and take one frame."""
    colour = "S" in axes
    others = [i for i, name in enumerate(axes) if name not in "YXS"]
    stack = [i for i in others if axes[i] == "Z"] or others[-1:]
    frames = [i for i in others if i not in stack]
    order = frames + stack + [axes.index(name) for name in ("YXS" if colour else "YX")]
    count = math.prod(array.shape[i] for i in frames)
    array = array.transpose(order).reshape(count, *(array.shape[i] for i in order[len(frames) :]))
    return array[choose_frame(frame, count, path)], colour


def _check_complete(file: tifffile.TiffFile, path: Path) -> None:
    """Refuse files whose chain of pages or whose pages' data leave the file; tifffile takes what it finds."""
    handle, tiff = file.filehandle, file.tiff
    ends = [
        offset + count
        for page in file.pages
        for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False)
    ]
    complete = bool(ends) and max(ends) <= handle.size
    if complete:
        last = file.pages[-1].offset
        handle.seek(last)
        tags = struct.unpack(tiff.tagnoformat, handle.read(tiff.tagnosize))[0]
        handle.seek(last + tiff.tagnosize + tags * tiff.tagsize)
        complete = struct.unpack(tiff.offsetformat, handle.read(tiff.offsetsize))[0] == 0
    if not complete:
        raise InputError(f"{path} is incomplete: pages that it announces are not there. Fetch or copy it again.")
