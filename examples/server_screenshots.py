"""Pictures of segmenting at a server: the choice of the place, the question before sending, the panel; in both themes.

    python examples/server_screenshots.py FOLDER

Starts a server of its own at port 8765. Needs a display (``xvfb-run -a -s "-screen 0 1600x1000x24"`` gives one).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication
from screenshots import LEFT, NOTHING, Tour, targets
from settings_screenshots import grabbed

from napari_sammed.samples import load

_ADDRESS = "http://localhost:8765"


def started(folder: str) -> subprocess.Popen[bytes]:
    """A server that answers."""
    serve = ["-m", "napari_sammed.cli", "serve", "--data", f"{folder}/server", "--device", "cpu"]
    process = subprocess.Popen([sys.executable, *serve], stderr=subprocess.DEVNULL)
    for _ in range(100):
        try:
            with urllib.request.urlopen(f"{_ADDRESS}/v1/health"):
                return process
        except OSError:
            time.sleep(0.2)
    raise SystemExit(f"nothing answers at {_ADDRESS}")


def at_server(folder: Path) -> None:
    """One viewer, from the dialog to a liver."""
    sample = load("torso")
    guide = Tour(sample, folder)
    place = guide.widget.coordinator._place
    guide.panel.place.click()
    QTest.qWait(500)
    place.dialog.where.setCurrentIndex(place.dialog.where.findData("other"))
    place.dialog.where.activated.emit(1)
    QTest.keyClicks(place.dialog.address, _ADDRESS)
    place.dialog.test_button.click()
    while not place.dialog.test_button.isEnabled():
        QTest.qWait(100)
    for theme in ("light", "dark"):
        guide.viewer.theme = theme
        grabbed(guide, place.dialog, f"place_{theme}")
    place.dialog.ok_button.click()
    guide.settle()
    middle = targets(sample)[0][0]
    guide.look_at(middle)
    guide.mode("positive")
    QTest.mouseClick(guide.canvas, LEFT, NOTHING, guide.position(middle))
    while place.question is None:
        QTest.qWait(100)
    for theme in ("light", "dark"):
        guide.viewer.theme = theme
        grabbed(guide, place.question, f"sending_{theme}")
    place.question.send_button.click()
    guide.settle()
    guide.picture("at_server")
    guide.panel.place.click()
    grabbed(guide, place.dialog, "known")
    guide.widget.coordinator.close(wait=True)
    guide.viewer.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as kept:
        os.environ["NAPARI_SAMMED_SESSIONS"] = os.environ["NAPARI_SAMMED_CONFIG"] = kept
        server = started(kept)
        try:
            application = QApplication.instance() or QApplication([])
            at_server(arguments.folder)
            application.processEvents()
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
