"""Real MRML scenes for the tests of the Slicer extension: what Slicer is without its windows.

The packages slicer-core, slicer-layer-dm and trame-slicer (the extra ``slicer``) have the nodes, logics and views; the
fixture puts `slicer.mrmlScene` and the few names that `slicer.util` wants in place, as the application does.
"""

from __future__ import annotations

import os
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


@pytest.fixture(autouse=True)
def config(tmp_path, monkeypatch):
    """The user's settings: none, and the real ones are left alone."""
    monkeypatch.setenv("NAPARI_SAMMED_CONFIG", str(tmp_path / "config"))
    monkeypatch.delenv("NAPARI_SAMMED_KEY", raising=False)
    monkeypatch.setitem(sys.modules, "keyring", None)  # as if it were not installed


@pytest.fixture
def scene(application):
    """An empty scene."""
    application.scene.Clear(False)
    yield application.scene
    application.scene.Clear(False)


@pytest.fixture(scope="package")
def views(application):
    """An axial view and one in 3D, without any window system: a virtual screen ends before the process does."""
    from trame_slicer.views import DirectViewFactory, ViewLayoutDefinition

    from tests.slicer.scenes import SIDE

    display = os.environ.pop("DISPLAY", None)
    application.view_manager.register_factory(DirectViewFactory(do_render_offscreen=True))
    found = [
        application.view_manager.create_view(layout)
        for layout in (ViewLayoutDefinition.axial_view(), ViewLayoutDefinition.threed_view())
    ]
    for view in found:
        view.update_size(SIDE, SIDE)
        view.render_window().SetSize(SIDE, SIDE)
        view.set_render_blocked(True)  # they draw when a picture is taken, not at every change of the scene
    yield found
    for view in found:
        application.view_manager.remove_view(view.get_singleton_tag())
        view.finalize()  # else its OpenGL context would stay the current one, for napari's canvas too
    if display is not None:
        os.environ["DISPLAY"] = display
