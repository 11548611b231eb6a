"""``kill -9`` of a real napari with the plugin in mid-work: opened again, prompts and masks are there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np

from napari_sammed.plugin.files.reader import read
from napari_sammed.plugin.sessions.journals import FOLDER_VARIABLE
from napari_sammed.volume import write_volume
from tests.phantoms import two_balls

ROOT = Path(__file__).resolve().parents[2]


def test_a_killed_napari_comes_back(open_plugin, tmp_path, sessions):
    volume, first, second = two_balls()
    write_volume(volume, tmp_path / "scan.nii.gz")
    environment = os.environ | {"PYTHONPATH": str(ROOT), FOLDER_VARIABLE: str(sessions), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.plugin.kill_viewer", str(tmp_path / "scan.nii.gz")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment) as victim:
        lost_patience = threading.Timer(200, victim.kill)
        lost_patience.start()
        said = [victim.stdout.readline(), victim.stdout.readline()]
        os.kill(victim.pid, signal.SIGKILL)
        lost_patience.cancel()
    assert said == ["masked 1\n", "masked 2\n"] and victim.returncode == -signal.SIGKILL
    assert len(list(sessions.glob("*.jsonl"))) == 1 and list(sessions.glob("*.lock")), "killed with the session open"

    hands = open_plugin()
    ((data, options, _),) = read(str(tmp_path / "scan.nii.gz"))
    hands.viewer.add_image(data, **options)
    hands.settle()
    assert "Found 2 objects" in hands.panel.offers.text.text() and not hands.panel.offers.isHidden()
    np.testing.assert_array_equal(hands.labels == 1, first)
    np.testing.assert_array_equal(hands.labels == 2, second)
    hands.mode("positive")
    assert len(hands.writer.points.data) >= 1, "the prompts of the object that was worked on"
    hands.segmentation.choose_object(1)
    hands.settle()
    np.testing.assert_array_equal(hands.writer.points.data, [np.argwhere(first).mean(0).round()])
    hands.act("undo")
    assert hands.message.startswith("Took back"), "and the work goes on"
