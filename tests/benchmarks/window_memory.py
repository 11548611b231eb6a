"""How much memory a napari window keeps of layers and docks that have been closed in it.

    xvfb-run -a -s "-screen 0 1600x1000x24" python -m tests.benchmarks.window_memory plugin [--rounds 14]

Each round adds a volume to the same window, works on it, and closes and deletes everything. "plugin" opens the dock,
clicks and draws a box with a model of the tests, and undoes some of it; "network" asks LiteMedSAM, loaded anew each
time (its weights are to be there); "napari" adds the same layers by itself. Memory is taken when garbage has been
collected and malloc has given back what is free.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections import Counter

import napari
import numpy as np
from qtpy.QtWidgets import QWidget

from napari_sammed.backend.local import LocalBackend
from napari_sammed.plugin.views.choosers import Choice
from napari_sammed.plugin.widget import SegmentWidget
from tests.monkey.paws import Bot, Paws
from tests.monkey.remains import Memory, objects
from tests.phantoms import two_balls
from tests.thresholder import Thresholder

_SHAPE = (20, 40, 50)


def plugin(viewer: napari.Viewer, model: str) -> None:
    """The dock, clicks, a box, undo, and the dock closed."""
    backend = LocalBackend(models={"thresholder": Thresholder()})
    widget = SegmentWidget(viewer, backend)
    dock = viewer.window.add_dock_widget(widget, name="SAMMed", area="right")
    section = widget.panel.image_section.model
    section.set_models([Choice(name, name.title()) for name in ("thresholder", "litemedsam")], {})
    section.box.set_key(model)
    hands = Paws(viewer, widget)
    hands.rest()
    hands.mode("positive")
    for plane in range(4, 16, 3):
        Paws.click(hands, (plane, 20, 25))
        hands.rest()
    hands.mode("box")
    hands.drag((9, 8, 8), (9, 30, 40))
    hands.rest()
    if not widget.coordinator.current.session.objects:
        raise SystemExit("the clicks made no object")
    for _ in range(2):
        hands.press(widget.panel.actions_["undo"])
        hands.rest()
    viewer.window.remove_dock_widget(dock)
    widget.close()
    widget.deleteLater()
    backend.shutdown()


def layers_alone(viewer: napari.Viewer) -> None:
    """What the plugin adds, by napari itself, with as many changes."""
    dock = viewer.window.add_dock_widget(QWidget(), name="nothing", area="right")
    labels = viewer.add_labels(np.zeros(_SHAPE, np.uint16))
    points = viewer.add_points(ndim=3)
    shapes = viewer.add_shapes(ndim=3)
    vectors = viewer.add_vectors(ndim=3)
    bot = Bot()
    for plane in range(4, 16, 3):
        viewer.dims.set_current_step(0, plane)
        labels.data[plane, 10:30, 10:40] = 1
        labels.refresh()
        points.add((plane, 20, 25))
        shapes.add_rectangles([[plane, 5, 5], [plane, 5, 20], [plane, 20, 20], [plane, 20, 5]])
        vectors.data = np.array([[[plane, 1, 1], [0, 3, 3]]], float)
        bot.wait(150)
    viewer.window.remove_dock_widget(dock)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.window_memory")
    parser.add_argument("what", choices=("napari", "plugin", "network"))
    parser.add_argument("--rounds", type=int, default=14)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NAPARI_SAMMED_SESSIONS"] = f"{folder}/sessions"
        os.environ["NAPARI_CONFIG"] = f"{folder}/napari.yaml"
        os.environ["NAPARI_SAMMED_CONFIG"] = f"{folder}/config"
        measure(arguments.what, arguments.rounds)


def measure(what: str, rounds: int) -> None:
    viewer = napari.Viewer(show=True)
    viewer.window.resize(1400, 950)
    added: Counter[str] = Counter()
    viewer.layers.events.inserted.connect(lambda event: added.update([type(event.value).__name__]))
    memory = Memory()
    for number in range(rounds):
        added.clear()
        array = np.array(two_balls(_SHAPE)[0].array, np.float32) + number / 100
        viewer.window._qt_window.show()
        viewer.add_image(array, scale=(3, 1, 1))
        if what == "napari":
            layers_alone(viewer)
        else:
            plugin(viewer, "thresholder" if what == "plugin" else "litemedsam")
        viewer.window._qt_window.hide()  # see `tests.monkey`
        count = dict(added)
        viewer.layers.clear()
        Bot().wait(300)
        objects(Counter())
        used = memory.note()
        print(f"round {number + 1}: {used:.1f} MiB, given out {memory.in_use[-1]:.1f} MiB; {count}", flush=True)
    for name, values in (("resident", [used for _, used in memory.points]), ("given out", memory.in_use)):
        slope = np.polyfit(np.arange(rounds)[rounds // 3 :], values[rounds // 3 :], 1)[0]
        print(f"{what}: {name} {1024 * slope:+.0f} KiB a round after the first third")
    viewer.close()


if __name__ == "__main__":
    main()
