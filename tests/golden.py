"""Golden files: loading, and the rule that fills a network with the weights they were computed with."""

from __future__ import annotations

import json
import zlib
from math import prod
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Golden:
    """One golden ``.npz`` file of the 2D models.

    Parameters
    ----------
    path
        The file.

    Attributes
    ----------
    meta
        Its ``meta`` entry (configuration, sizes, notes).
    keys
        {state-dict key: (shape, dtype name)} of the official checkpoint, in its order.
    """

    def __init__(self, path: Path) -> None:
        self._arrays = np.load(path, allow_pickle=False)
        self.meta = json.loads(str(self._arrays["meta"]))
        listed = json.loads(str(self._arrays["keys"])) if "keys" in self else []
        self.keys = {key: (tuple(shape), dtype) for key, shape, dtype in listed}

    def __contains__(self, name: str) -> bool:
        return name in self._arrays.files

    def __getitem__(self, name: str) -> np.ndarray:
        return self._arrays[name]

    def tensor(self, name: str) -> Tensor:
        """Array ``name`` as a tensor."""
        return torch.from_numpy(self._arrays[name])

    def optional(self, name: str) -> Tensor | None:
        """Array ``name`` as a tensor, or None where the file has none."""
        return self.tensor(name) if name in self else None


def golden_value(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """Value of a float state-dict entry by the fill rule of the golden files (their README)."""
    values = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(shape).astype(np.float32)
    if len(shape) == 1 and key.endswith("weight"):
        return 1 + np.float32(0.1) * values
    if key.endswith("running_var"):
        return 1 + np.float32(0.1) * np.abs(values)
    if len(shape) >= 2:
        return values / np.float32(np.sqrt(prod(shape[1:])))
    return np.float32(0.02) * values


def fill(module: nn.Module, prefix: str = "") -> nn.Module:
    """Give ``module`` the golden weights (strict), put it in evaluation mode and return it.

    ``prefix`` is what stands before the module's keys in the official checkpoint, e.g. ``"prompt_encoder."``.
    """
    state = module.state_dict()
    for key, value in state.items():
        if value.is_floating_point():
            state[key] = torch.as_tensor(golden_value(prefix + key, tuple(value.shape)), dtype=value.dtype)
    module.load_state_dict(state, strict=True)
    return module.eval()


def described_keys(module: nn.Module) -> dict[str, tuple[tuple[int, ...], str]]:
    """{key: (shape, dtype name)} of a module, to compare with `Golden.keys`."""
    return {k: (tuple(v.shape), str(v.dtype).removeprefix("torch.")) for k, v in module.state_dict().items()}


def max_difference(a: Tensor, b: Tensor) -> float:
    """Largest absolute difference; refuses to broadcast."""
    if a.shape != b.shape:
        raise ValueError(f"shapes {tuple(a.shape)} and {tuple(b.shape)} differ")
    return (a - b).abs().max().item() if a.numel() else 0.0


def synth(height: int, width: int, variant: int) -> np.ndarray:
    """The golden files' test image, RGB uint8 (height, width, 3), made from integers only (their README)."""
    x, y = np.arange(width)[None], np.arange(height)[:, None]
    t = (x * (1 + variant) + 2 * y + 37 * variant) % 510
    channels = (x * 255 // (width - 1) + 0 * y, y * 255 // (height - 1) + 0 * x, np.minimum(t, 510 - t))
    image = np.stack(channels, axis=-1).astype(np.int64)
    for (cx, cy, ax, ay), colour in _ELLIPSES:
        if variant == 1:
            cx, colour = 1000 - cx, (colour[2], colour[0], colour[1])
        a, b = max(1, ax * width // 1000), max(1, ay * height // 1000)
        dx, dy = x - cx * width // 1000, y - cy * height // 1000
        inside = dx**2 * b**2 + dy**2 * a**2 <= a**2 * b**2
        image[inside] = (image[inside] + 3 * np.array(colour)) // 4
    return image.astype(np.uint8)


_ELLIPSES = (
    ((300, 350, 180, 220), (200, 60, 90)),
    ((650, 600, 220, 150), (40, 180, 220)),
    ((700, 250, 90, 120), (240, 230, 20)),
    ((250, 750, 120, 70), (15, 25, 35)),
)


def ct_like(height: int, width: int, seed: int) -> np.ndarray:
    """The golden files' grey test slice, float32 in 0..1."""
    return (synth(height, width, seed % 2).astype(np.int64).sum(-1) // 3).astype(np.float32) / np.float32(255)


def smooth_logits(count: int, height: int, width: int, seed: int) -> Tensor:
    """The golden files' mask prompt, (count, 1, height, width)."""
    coarse = np.random.RandomState(seed).standard_normal((count, 1, 4, 4)).astype(np.float32)
    return 6 * F.interpolate(torch.from_numpy(coarse), (height, width), mode="bilinear", align_corners=False)
