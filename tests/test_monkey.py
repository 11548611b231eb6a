"""The monkey, for a minute or two: nothing goes wrong, and nothing is left of the plugin when it is closed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.full
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [1, 2])
def test_a_monkey_finds_nothing(seed):
    pytest.importorskip("napari")
    command = [
        sys.executable,
        "-m",
        "tests.monkey",
        "--seed",
        str(seed),
        "--steps",
        "60",
        "--round",
        "60",
    ]  # one round: see `Monkey.finish`
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=850)
    assert done.returncode == 0, f"{done.stdout[-6000:]}\n{done.stderr[-3000:]}"
