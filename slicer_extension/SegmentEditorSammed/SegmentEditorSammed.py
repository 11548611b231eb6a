"""A hidden module that registers the effect SAMMed of the Segment Editor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import ScriptedLoadableModule, ScriptedLoadableModuleTest


class SegmentEditorSammed(ScriptedLoadableModule):
    """What Slicer wants to know of the module."""

    def __init__(self, parent: Any) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = "SegmentEditorSammed"
        parent.categories = ["Segmentation"]
        parent.dependencies = ["Segmentations"]
        parent.contributors = ["The napari-sammed authors"]
        parent.hidden = True
        parent.helpText = _("Registers the Segment Editor effect SAMMed: segment by clicks, boxes and strokes.")
        parent.acknowledgementText = _("See the module SAMMed.")
        slicer.app.connect("startupCompleted()", register_effect)


def register_effect() -> None:
    """Offer the effect in the Segment Editor."""
    import qSlicerSegmentationsEditorEffectsPythonQt as effects

    effect = effects.qSlicerSegmentEditorScriptedEffect(None)
    source = Path(__file__).parent / "SegmentEditorSammedLib" / "SegmentEditorEffect.py"
    effect.setPythonSource(source.as_posix())
    effect.self().register()


class SegmentEditorSammedTest(ScriptedLoadableModuleTest):
    """The effect is tested with the logic that it shares with the module; here, that it is there."""

    def runTest(self) -> None:
        import qSlicerSegmentationsEditorEffectsPythonQt as effects

        factory = effects.qSlicerSegmentEditorEffectFactory.instance()
        self.assertTrue("SAMMed" in [effect.name for effect in factory.registeredEffects()])
