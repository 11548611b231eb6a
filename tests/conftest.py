"""Fixtures that several test folders use."""

from __future__ import annotations

import gc
import os
import signal
from pathlib import Path

import pytest

from napari_sammed.errors import WeightsError

# Processes of xdist share the processors, and PyTorch, which is imported later, takes all of them by itself: small
# networks then learn ten times as slowly.
if processes := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // int(processes))))

# A shell that runs tests in the background has them ignore Ctrl-C, and so would all processes that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def weights() -> Path:
    """The official LiteMedSAM weights, fetched into the user's cache once; skips if that needs a network."""
    from napari_sammed.models import registry
    from napari_sammed.models.weights import obtain

    try:
        return obtain(registry.card("litemedsam"))
    except WeightsError as error:
        if "no network" not in str(error):
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real images and golden vectors that lies beside a development checkout; skips without it."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip(f"no folder of images and golden vectors at {folder}")
    return folder


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep files together in one process, and folders that share a cluster or a Slicer."""
    for item in items:
        folder = item.path.parent.name
        item.add_marker(pytest.mark.xdist_group(folder if folder in ("cluster", "slicer") else str(item.path)))


def pytest_collection_finish() -> None:
    """Look for garbage among what tests make only.

    What has been loaded by now stays, nearly a million objects. To look through them takes half a second, and napari
    does so for each layer that leaves a canvas, the backend where memory runs out.
    """
    gc.collect()
    gc.freeze()
