"""Interactive segmentation of medical images in 2D and 3D.

The public names are imported on first use, so that importing the package imports neither torch nor Qt.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

__version__ = "0.1.0.dev0"

# PyTorch's threads on Linux (libgomp) wait for each other in a loop for milliseconds before they sleep. Where another
# program computes at the same time they wait for a thread that is not running, and an encoder takes many times longer.
# Read once, when torch is first loaded; what the user has set stays (`tests/benchmarks/beside_others.py`).
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

_PUBLIC = {
    "Box": "napari_sammed.geometry",
    "Grid": "napari_sammed.geometry",
    "InputError": "napari_sammed.errors",
    "LocalBackend": "napari_sammed.backend.local",
    "MaskPrompt": "napari_sammed.prompts",
    "Point": "napari_sammed.prompts",
    "Prompts": "napari_sammed.prompts",
    "RemoteBackend": "napari_sammed.backend.remote",
    "Session": "napari_sammed.session",
    "Stroke": "napari_sammed.prompts",
    "Volume": "napari_sammed.volume",
    "Window": "napari_sammed.intensity",
    "read_volume": "napari_sammed.volume",
    "write_mask": "napari_sammed.volume",
}

__all__ = [*_PUBLIC, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
