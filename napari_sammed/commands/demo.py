"""``napari-sammed demo``: a sample image with a first object, in napari or as files."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_sammed import samples
from napari_sammed.commands.common import amount, check_folder, ended
from napari_sammed.commands.servers import Server, backend_for, told
from napari_sammed.commands.terminal import bar, download_bar, note, say, say_json, wait
from napari_sammed.doctor import has_display
from napari_sammed.errors import FetchError, InputError
from napari_sammed.evaluation.metrics import dice
from napari_sammed.geometry import Box
from napari_sammed.overlay import write_overlay
from napari_sammed.prompts import Point
from napari_sammed.session import Session

_MODEL = "random-walker"  # needs no weights, so the demo is there at once


@dataclass(frozen=True)
class Scene:
    """A sample and what to click in it.

    Parameters
    ----------
    sample : Sample
    title : str
        Of the object.
    clicks : sequence of Point
    reference : ndarray of bool
        The object according to the sample's labels.
    compared : str
        What the reference is, for people.
    """

    sample: samples.Sample
    title: str
    clicks: Sequence[Point]
    reference: np.ndarray
    compared: str


def demo(headless: bool, folder: Path, as_json: bool, server: Server | None = None) -> None:
    """Open the demo in napari, or write it into a folder.

    Raises
    ------
    InputError
        If the folder cannot be written to; at a server, without consent.
    """
    if server is not None and not headless:
        note("With --server the demo writes files; in napari, the panel has servers to choose.")
        headless = True
    windowed = not headless and not as_json
    if windowed and importlib.util.find_spec("napari") is None:
        note('napari is not installed (`pip install "napari-sammed[napari]"` brings it): writing files instead.')
        windowed = False
    if windowed and not has_display():
        note("There is no display: writing files instead of opening napari.")
        windowed = False
    if not windowed:
        _make_folder(folder)
    scene = _scene()
    if windowed:
        from napari_sammed.plugin.demo import show

        show(scene.sample, scene.title, scene.clicks, _MODEL)
    else:
        _write(scene, folder, as_json, server)


def brain_scene(sample: samples.Sample) -> Scene:
    """Two clicks in each lateral ventricle, compared with the fluid around them in the template's tissue maps."""
    clicks = [Point(index) for index in ((90, 98, 77), (90, 132, 92), (90, 98, 119), (90, 132, 104))]
    nearby = Box((76, 84, 62), (108, 168, 135))  # the ventricles without the fluid below them and in the sulci
    reference = np.zeros(sample.image.grid.shape, bool)
    reference[nearby.slices] = _piece(sample.labels[nearby.slices] == 3, [c.index for c in clicks], nearby)
    return Scene(sample, "lateral ventricles", clicks, reference, "the fluid in the template's tissue masks")


def torso_scene(sample: samples.Sample) -> Scene:
    """One click in the liver of the synthetic torso."""
    return Scene(sample, "liver", (Point((47, 54, 59)),), sample.labels == 1, "the liver that was drawn")


def _scene() -> Scene:
    try:
        with download_bar("brain sample") as progress:
            return brain_scene(samples.brain(progress))
    except FetchError as error:
        note(
            f"The brain sample cannot be fetched ({error}). Going on with the synthetic torso, which needs no network."
        )
        return torso_scene(samples.torso())


def _piece(mask: np.ndarray, indices: Sequence[Sequence[float]], box: Box) -> np.ndarray:
    """The connected parts of a mask inside a box that contain one of the given voxels of the image."""
    from scipy import ndimage

    labelled, _ = ndimage.label(mask)
    wanted = {int(labelled[tuple(int(i) - lo for i, lo in zip(index, box.low, strict=True))]) for index in indices}
    return np.isin(labelled, list(wanted - {0}))


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"The folder {folder} cannot be made: {error.strerror}.") from None
    check_folder(folder)


def _write(scene: Scene, folder: Path, as_json: bool, server: Server | None) -> None:
    image = scene.sample.image
    start = time.perf_counter()
    with backend_for(told(image), server, "auto", {}) as backend, bar() as progress:
        session = Session(image, backend)
        with ended(session):
            session.new_object(scene.title)
            for click in scene.clicks:
                wait(session.add(click, model=_MODEL, progress=progress))
            labels = session.labels()
            seconds = time.perf_counter() - start
            mask_path, picture_path = folder / f"{image.name}_mask.nii.gz", folder / f"{image.name}_overlay.png"
            session.save(mask_path)
    write_overlay(picture_path, image, labels)
    mask = labels > 0
    agreement = dice(mask, scene.reference)
    size = amount(int(mask.sum()), image.grid)
    result = {
        "sample": image.name,
        "object": scene.title,
        "model": _MODEL,
        "clicks": len(scene.clicks),
        **size,
        "dice": round(agreement, 4),
        "seconds": round(seconds, 2),
        "mask": str(mask_path),
        "overlay": str(picture_path),
    }
    if as_json:
        say_json(result)
        return
    clicks = f"{len(scene.clicks)} click{'s' * (len(scene.clicks) > 1)}"
    say(
        f"{image.name}, {scene.title}: {clicks}, {size['volume_ml']:.1f} ml, Dice {agreement:.3f} with "
        f"{scene.compared}, {seconds:.1f} s; see {picture_path} and {mask_path}"
    )
