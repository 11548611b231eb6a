"""The test that Slicer itself runs ("Reload and Test"): needs no network, and nothing that is not installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import slicer
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleTest

from . import volumes
from .delivery import Mailbox
from .installing import Installer
from .logic import SammedLogic


class ModuleTest(ScriptedLoadableModuleTest):
    """What can be tested in any Slicer; the rest is tested outside of Slicer."""

    def setUp(self) -> None:
        slicer.mrmlScene.Clear()

    def runTest(self) -> None:
        self.setUp()
        self.test_positions()
        self.setUp()
        self.test_segmenting()

    def test_positions(self) -> None:
        """A position in an oblique volume reaches the voxel that it lies in."""
        volume = self._volume()
        world = volumes.to_world(volume, [(3, 4, 5)])
        self.assertTrue(abs(volumes.to_index(volume, world) - (3, 4, 5)).max() < 1e-9)

    def test_segmenting(self) -> None:
        """A click fills a block; passes without doing anything where the packages are not installed."""
        installer = Installer(Path(__file__).parents[1] / "Resources" / "requirements.txt")
        if installer.missing:
            self.delayDisplay(f"Not installed, skipped: {', '.join(installer.missing)}")
            return
        from napari_sammed.prompts import Point

        mailbox = Mailbox()
        logic = SammedLogic(mailbox.post)
        logic.model = "random-walker"
        segmentation = logic.open(self._volume())
        logic.add(Point((6.0, 12.0, 12.0)))
        while logic.busy:
            mailbox.run(0.05)
        mailbox.run()
        found = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, logic.segment_id, logic.volume)
        self.assertTrue(found is not None and found[6, 12, 12] and not found[0, 0, 0])
        logic.close()

    def _volume(self) -> Any:
        import numpy as np

        grey = np.random.default_rng(0).integers(95, 105, (12, 24, 24)).astype(np.int16)
        grey[3:9, 6:18, 6:18] += 300
        turned = np.eye(4)
        turned[:3, :3] = np.array([[0.36, 0.48, -0.8], [-0.8, 0.6, 0.0], [0.48, 0.64, 0.6]]) * (0.8, 1.1, 3.0)
        return slicer.util.addVolumeFromArray(grey, ijkToRAS=turned)
