"""Real MRML scenes for the tests of the Slicer extension: what Slicer is without its windows.

The packages slicer-core, slicer-layer-dm and trame-slicer (the extra ``slicer``) have the nodes, logics and views; the
fixture puts `slicer.mrmlScene` and the few names that `slicer.util` wants in place, as the application does.
"""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "slicer_extension" / "Sammed"))  # as Slicer does


@pytest.fixture(scope="session")
def application():
    """The application: scene, logics, view manager. One a process, since displayable managers are global."""
    import slicer
    from trame_slicer.core import SlicerApp

    app = SlicerApp()
    slicer.mrmlScene = app.scene
    slicer.modules = types.SimpleNamespace(
        **{
            name: types.SimpleNamespace(logic=lambda logic=logic: logic)
            for name, logic in (
                ("volumes", app.volumes_logic),
                ("segmentations", app.segmentations_logic),
                ("terminologies", app.terminologies_logic),
            )
        }
    )
    slicer.app = types.SimpleNamespace(applicationLogic=lambda: app.app_logic)
    return app


@pytest.fixture
def scene(application):
    """An empty scene."""
    application.scene.Clear(False)
    yield application.scene
    application.scene.Clear(False)
