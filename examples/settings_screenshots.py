"""Pictures of an empty panel, the first hint, shortcuts, preferences and the question about an overlap, in both themes.

    python examples/settings_screenshots.py FOLDER

Needs a display (``xvfb-run -a -s "-screen 0 1600x1000x24"`` gives one).
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

import numpy as np
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QWidget
from scipy import ndimage
from screenshots import Tour

from napari_sammed.geometry import Box
from napari_sammed.plugin.settings.preferences import Preferences
from napari_sammed.prompts import MaskPrompt
from napari_sammed.samples import load


def grabbed(guide: Tour, widget: QWidget, name: str) -> None:
    """Write a picture of one widget to a file."""
    QTest.qWait(300)
    guide.count += 1
    widget.grab().save(str(guide.folder / f"{guide.count:02d}_{name}.png"))


def taken(labels: np.ndarray, value: int, grown: int) -> MaskPrompt:
    """A structure of the reference labels, some voxels wider."""
    mask = ndimage.binary_dilation(labels == value, iterations=grown) if grown else labels == value
    box = Box.of_mask(mask)
    return MaskPrompt(mask[box.slices].copy(), box.low)


def settings(folder: Path) -> None:
    """One viewer, from the first hint to an overlap."""
    sample = load("torso")
    guide = Tour(sample, folder)
    coordinator = guide.widget.coordinator
    values = {name: value for value, name in sample.names.items()}
    for theme in ("dark", "light"):
        guide.viewer.theme = theme
        guide.panel.status.warn("A warning in this theme.", "theme")
        guide.panel.status.murmur("Small print in this theme.")
        guide.picture(f"hint_{theme}")
        coordinator._shortcut_list.show()
        grabbed(guide, coordinator._shortcut_list.dialog, f"shortcuts_{theme}")
        coordinator._shortcut_list.close()
        coordinator._preference_page.show()
        grabbed(guide, coordinator._preference_page.dialog, f"preferences_{theme}")
        coordinator._preference_page.dialog.close()
    guide.viewer.theme = "dark"
    guide.panel.status.warn("", "theme")
    guide.panel.status.murmur("")
    session = coordinator.current.session
    labels = np.asarray(sample.labels)
    session.take(taken(labels, values["right kidney"], 0), "Right kidney")
    session.take(taken(labels, values["liver"], 6), "Liver")
    guide.settle()
    guide.panel.overlaps.look_button.click()
    guide.picture("overlap")
    guide.viewer.layers.clear()
    guide.settle()
    guide.picture("empty")
    coordinator.close(wait=True)
    guide.viewer.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as kept:
        os.environ["NAPARI_SAMMED_SESSIONS"] = os.environ["NAPARI_SAMMED_CONFIG"] = kept
        Preferences().set("overlap", "ask")
        application = QApplication.instance() or QApplication([])
        settings(arguments.folder)
        application.processEvents()


if __name__ == "__main__":
    main()
