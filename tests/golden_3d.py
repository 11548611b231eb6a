"""Golden files of the 3D networks, which are laid out differently from those in 2D."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from torch import Tensor

from tests.golden import Golden


class Golden3d(Golden):
    """One golden ``.npz`` file of the 3D networks; see `Golden`.

    Parameters
    ----------
    path
        The file.
    part
        What stands before the names of a second configuration in the same file.

    Attributes
    ----------
    config
        Constructor values of the network.
    """

    def __init__(self, path: Path, part: str = "") -> None:
        self._arrays = np.load(path, allow_pickle=False)
        self._part = part
        self.config = json.loads(str(self["config"]))
        listed = zip(self["state_keys"], self["state_shapes"], self["state_dtypes"], strict=True)
        self.keys = {str(key): (tuple(json.loads(str(shape))), str(dtype)) for key, shape, dtype in listed}

    def __contains__(self, name: str) -> bool:
        return super().__contains__(self._part + name)

    def __getitem__(self, name: str) -> np.ndarray:
        return super().__getitem__(self._part + name)

    def tensor(self, name: str) -> Tensor:
        return super().tensor(self._part + name).float()

    def prompts(self, case: str) -> dict[str, object]:
        """Points, boxes and masks of a case, as the prompt encoder takes them."""
        coords = self.optional(f"{case}.coords")
        return {
            "points": None if coords is None else (coords, self.tensor(f"{case}.labels")),
            "boxes": self.optional(f"{case}.box"),
            "masks": self.optional(f"{case}.mask_input"),
        }


def noise(seed: int, *shape: int) -> np.ndarray:
    """Input of the full-size files."""
    return np.random.RandomState(seed).standard_normal((1, 1, *shape)).astype(np.float32)
