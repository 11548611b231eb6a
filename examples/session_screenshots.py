"""Pictures of resuming: a session that was found, and what the session menu offers.

    python examples/session_screenshots.py FOLDER

Needs a display (``xvfb-run -a -s "-screen 0 1600x1000x24"`` gives one).
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication
from screenshots import Tour, targets

from napari_sammed.samples import load


def resumed(folder: Path) -> None:
    """Two organs of the synthetic torso from a click each; the image is closed and opened again."""
    sample = load("torso")
    guide = Tour(sample, folder)
    guide.panel.image_section.model.box.set_key("random-walker")
    for number, ((middle, _, _), name) in enumerate(zip(targets(sample), ("liver", "kidney"), strict=True), 1):
        if number > 1:
            guide.panel.objects.new_button.click()
            guide.settle()
        guide.click(middle)
        guide.panel.objects.wanted.emit("rename", [number], name)
    labels = guide.widget.coordinator.current.writer.labels
    guide.widget.coordinator.choose_image(guide.image)
    guide.settle()
    guide.viewer.layers.remove(labels)
    guide.settle()
    guide.look_at(targets(sample)[0][0])
    guide.picture("resumed")
    menu = guide.panel.session_button.menu()
    menu.popup(guide.panel.session_button.mapToGlobal(guide.panel.session_button.rect().bottomLeft()))
    QTest.qWait(300)
    guide.count += 1
    QApplication.primaryScreen().grabWindow(0).save(str(folder / f"{guide.count:02d}_menu.png"))
    menu.close()
    guide.widget.coordinator.close(wait=True)
    guide.viewer.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as sessions:
        os.environ["NAPARI_SAMMED_SESSIONS"] = sessions
        application = QApplication.instance() or QApplication([])
        resumed(arguments.folder)
        application.processEvents()


if __name__ == "__main__":
    main()
