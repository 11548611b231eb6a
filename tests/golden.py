"""Golden files: loading, and the rule that fills a network with the weights they were computed with."""

from __future__ import annotations

import json
import zlib
from math import prod
from pathlib import Path

import numpy as np
import torch
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
