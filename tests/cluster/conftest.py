"""A cluster of two processors, started once for this folder in a process of its own, which this one then joins."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from napari_sammed.cluster import joined

# Ray reads these when it is imported, be it to see whether it is there: as `joined` sets them.
os.environ |= {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_AUTH_MODE": "token"}

ROOT = Path(__file__).parents[2]
HEAD = """
import sys
from napari_sammed.cluster import joined

with joined(None, 2):
    import ray
    print(ray.get_runtime_context().gcs_address, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="package")
def cluster():
    """The address of a cluster, which ends with the tests of this folder."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("ray is not installed")
    head = subprocess.Popen(
        [sys.executable, "-c", HEAD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},  # of the workers, wherever a command is given
    )
    address = head.stdout.readline().strip()
    try:
        assert address
        yield address
    finally:
        head.stdin.close()
        head.wait(30)


@pytest.fixture(scope="module")
def member(cluster):
    """This process is part of the cluster."""
    with joined(cluster):
        yield
