"""What a person who helps wants to know about this Slicer: versions, device, weights; plain text to copy."""

from __future__ import annotations

import importlib.metadata
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

import slicer

_PACKAGES = ("napari-sammed", "torch", "numpy", "SimpleITK", "scikit-image")


def summary() -> str:
    """Versions and whether the weights of models are here, a line each; at once, imports no torch."""
    return "\n".join([*_versions(), *_weights()])


def full_report() -> str:
    """The summary, and everything that ``napari-sammed doctor`` finds: devices, a forward pass, sums of weights.

    Takes seconds to minutes: call it beside the main thread.
    """
    lines = list(_versions())
    try:
        from napari_sammed.doctor import examine
    except ImportError:
        return "\n".join(lines)
    for finding in examine():
        if finding.about not in ("napari", "display"):  # of the other face
            lines.append(f"{'' if finding.good else '! '}{finding.about}: {finding.text}")
    return "\n".join(lines)


def weights_folder() -> Path | None:
    """Where weights lie; None if nothing has been fetched yet."""
    try:
        from napari_sammed.models.storage import cache_folder
    except ImportError:
        return None
    folder = cache_folder()
    return folder if folder.is_dir() else None


def _versions() -> Iterator[str]:
    application = getattr(slicer, "app", None)
    version = getattr(application, "applicationVersion", None)
    yield f"3D Slicer: {version or 'without application'}, {platform.platform()}"
    yield f"Python: {platform.python_version()}, {sys.executable}"
    for name in _PACKAGES:
        try:
            yield f"{name}: {importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:
            yield f"{name}: not installed"


def _weights() -> Iterator[str]:
    try:
        from napari_sammed.models import registry
        from napari_sammed.models.storage import cache_folder
    except ImportError:
        return
    yield f"Weights lie in {cache_folder()}"
    here = [row.name for row in registry.rows() if row.path is not None]
    yield f"Weights on this machine: {', '.join(here) or 'none'}"
