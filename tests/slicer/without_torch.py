"""A session at a server in a Python without PyTorch: run in an interpreter of its own, with the server's address.

Prints one JSON object: voxels of the segment after each step, and which of the forbidden packages were imported.
"""

from __future__ import annotations

import json
import sys
import types
from importlib.abc import MetaPathFinder
from pathlib import Path

FORBIDDEN = ("torch", "napari", "qtpy", "PyQt6")


class Without(MetaPathFinder):
    """As if they were not installed."""

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in FORBIDDEN:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return None


def main() -> None:
    root = Path(__file__).resolve().parents[2]
    sys.path[:0] = [str(root), str(root / "slicer_extension" / "Sammed")]
    sys.meta_path.insert(0, Without())
    import slicer
    from trame_slicer.core import SlicerApp

    app = SlicerApp()
    slicer.mrmlScene = app.scene
    slicer.modules = types.SimpleNamespace(
        volumes=types.SimpleNamespace(logic=lambda: app.volumes_logic),
        segmentations=types.SimpleNamespace(logic=lambda: app.segmentations_logic),
    )
    slicer.app = types.SimpleNamespace(applicationLogic=lambda: app.app_logic)
    from SammedLib.installing import Installer
    from SammedLib.serving import segments_here

    from tests.slicer.desks import Desk
    from tests.slicer.scenes import CLICKS, OBLIQUE, add_volume, matrix, phantom

    requirements = root / "slicer_extension" / "Sammed" / "Resources" / "requirements.txt"
    needed_here = Installer(requirements).missing
    desk = Desk(model="random-walker")
    desk.yes = True
    desk.go(sys.argv[1])
    desk.wait()
    needed_there = Installer(requirements).missing
    assert not segments_here()
    models = [offer.key for offer in desk.presenter.models()]
    desk.open(add_volume(phantom(), matrix(OBLIQUE)))
    voxels = []
    for index, positive in CLICKS:
        desk.click(index, positive)
        voxels.append(int(desk.masks()[0].sum()))
    desk.do(desk.presenter.undo)
    desk.do(desk.presenter.look_closer)
    voxels.append(int(desk.masks()[0].sum()))
    desk.do(desk.presenter.undo)
    desk.do(desk.presenter.redo)
    desk.presenter.serving.choose(None)
    desk.wait()
    said = desk.said
    desk.close()
    imported = sorted({name.split(".")[0] for name in sys.modules} & set(FORBIDDEN))
    print(
        json.dumps(
            {
                "voxels": voxels,
                "imported": imported,
                "models": models,
                "here": needed_here,
                "there": needed_there,
                "said": said,
            }
        )
    )


if __name__ == "__main__":
    main()
