"""Who answers simulated users: every model as users get it, and plain baselines.

A method is opened for an image; what comes out answers the prompts of one structure after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Protocol

import numpy as np

from napari_sammed.backend.base import Backend
from napari_sammed.errors import InputError
from napari_sammed.prompts import Box, Point, Prompt, Prompts, Stroke
from napari_sammed.session import Session
from napari_sammed.volume import Volume


class Answerer(Protocol):
    """One image, opened by a method.

    Attributes
    ----------
    weights : str
        sha256 of the weights that answered; empty if there are none, or before the first answer.
    """

    weights: str

    def begin(self) -> None:
        """Another structure: forget the prompts so far."""
        ...

    def answer(self, prompt: Prompt) -> np.ndarray:
        """The mask (boolean, of the image's shape) after one more prompt."""
        ...

    def close(self) -> None:
        """Let go of the image."""
        ...


Method = Callable[[Volume], Answerer]

CONFIDENCE_CONNECTED = "confidence-connected"
PROPAGATION = "+propagation"
"""Ends the name of a model of slices that is to carry objects through volumes, as in "litemedsam+propagation"."""


class ModelAnswerer:
    """A registry model behind a session, with everything that the session does for a user.

    Parameters
    ----------
    image : Volume
    backend : Backend
    model : str
        Registry name.
    flat : bool
        Whether flat images will do.

    Raises
    ------
    InputError
        For a flat image that will not do.

    Notes
    -----
    A model of slices on a volume answers a prompt on its slice; then all that is marked is propagated through the whole
    stack, as by the plugin's button.
    """

    def __init__(self, image: Volume, backend: Backend, model: str, *, flat: bool = True) -> None:
        if not flat and image.grid.ndim != 3:
            raise InputError(f"A flat image has no slices to propagate through: ask {model} without {PROPAGATION!r}.")
        self._session = Session(image, backend)
        self._model = model
        self._walks = image.grid.ndim == 3 and 3 not in backend.card(model).dimensions
        self.weights = ""

    def begin(self) -> None:
        if self._session.current is not None:
            self._session.delete(self._session.current)
        self._session.new_object()

    def answer(self, prompt: Prompt) -> np.ndarray:
        session = self._session
        self.weights = session.add(prompt, model=self._model).result().weights_hash
        if self._walks and session.objects[session.current].mask is not None:
            session.propagate(model=self._model).result()
        mask = np.zeros(session.image.grid.shape, bool)
        found = session.objects[session.current].mask
        if found is not None:
            mask[found.extent.slices] = found.mask
        return mask

    def close(self) -> None:
        self._session.close()


class ConfidenceConnected:
    """Region growing by SimpleITK: voxels connected to the seeds whose grey value is within a few deviations.

    Positive clicks and the centres of boxes are seeds. What lies nearer to a negative click than to every seed is cut
    off, and so is what lies outside of a box.
    """

    weights = ""
    MULTIPLIER = 2.5
    ITERATIONS = 2
    RADIUS = 1

    def __init__(self, image: Volume) -> None:
        import SimpleITK as sitk

        array = image.array if image.channels == 1 else image.array @ np.array([0.299, 0.587, 0.114])
        self._grid = image.grid
        smooth = sitk.GetImageFromArray(array.astype(np.float32))
        self._image = sitk.CurvatureFlow(smooth, timeStep=0.0625, numberOfIterations=3)
        self._prompts = Prompts()

    def begin(self) -> None:
        self._prompts = Prompts()

    def answer(self, prompt: Prompt) -> np.ndarray:
        import SimpleITK as sitk

        self._prompts = self._prompts.add(prompt)
        seeds, against = self._seeds()
        mask = np.zeros(self._grid.shape, bool)
        if not len(seeds):
            return mask
        grown = sitk.ConfidenceConnected(
            self._image,
            [tuple(map(int, seed[::-1])) for seed in seeds],
            numberOfIterations=self.ITERATIONS,
            multiplier=self.MULTIPLIER,
            initialNeighborhoodRadius=self.RADIUS,
        )
        mask = sitk.GetArrayFromImage(grown).astype(bool)
        for place in self._prompts.of(Box):
            inside = np.zeros_like(mask)
            inside[place.slices] = True
            mask &= inside
        if len(against) and mask.any():
            voxels = np.argwhere(mask)
            spacing = np.array(self._grid.spacing)
            nearer = _distance(voxels, against, spacing) < _distance(voxels, seeds, spacing)
            mask[tuple(voxels[nearer].T)] = False
        return mask

    def close(self) -> None:
        del self._image

    def _seeds(self) -> tuple[np.ndarray, np.ndarray]:
        positive: list[np.ndarray] = [np.empty((0, self._grid.ndim), int)]
        negative = list(positive)
        for item in self._prompts:
            if isinstance(item, Box):
                positive.append(np.array([[(lo + hi - 1) // 2 for lo, hi in zip(item.low, item.high, strict=True)]]))
            elif isinstance(item, Point):
                (positive if item.positive else negative).append(np.rint([item.index]).astype(int))
            elif isinstance(item, Stroke):
                (positive if item.positive else negative).append(item.voxels())
        return np.concatenate(positive), np.concatenate(negative)


def methods(names: Sequence[str], backend: Backend) -> Mapping[str, Method]:
    """Methods by name: models of the registry that take prompts, models of slices with `PROPAGATION`, and the baseline.

    Raises
    ------
    InputError
        For an unknown name, a model that takes no prompts, or one that has nothing to propagate.
    """
    chosen: dict[str, Method] = {}
    for name in names:
        if name == CONFIDENCE_CONNECTED:
            chosen[name] = ConfidenceConnected
            continue
        card, walks = backend.card(name.removesuffix(PROPAGATION)), name.endswith(PROPAGATION)
        if not card.prompts:
            raise InputError(f"{card.title} takes no prompts: there is nothing to simulate a user for.")
        if walks and 3 in card.dimensions:
            raise InputError(f"{card.title} sees volumes whole and propagates nothing: leave {PROPAGATION!r} out.")
        key = card.name + PROPAGATION * walks
        chosen[key] = partial(ModelAnswerer, backend=backend, model=card.name, flat=not walks)
    return chosen


def _distance(voxels: np.ndarray, places: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """mm from each voxel to the nearest of some places."""
    from scipy.spatial import cKDTree

    return cKDTree(places * spacing).query(voxels * spacing)[0]
