"""When the plugin has been closed, nothing of it stays alive; `tests.monkey` sees to the rest in a real window."""

from __future__ import annotations

import gc
import threading
import weakref

from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QApplication

from tests.phantoms import two_balls
from tests.plugin.test_canvas import middle


def test_nothing_stays_alive_of_a_closed_plugin(open_plugin, backend):
    volume, first, _ = two_balls()
    hands = open_plugin(volume.array, scale=(3, 1, 1))
    hands.mode("positive")
    hands.writer.points.add(middle(first))
    hands.settle()
    assert hands.labels.any()
    other = hands.viewer.add_image(volume.array[::2].copy(), name="other")
    hands.widget.coordinator.choose_image(other)
    hands.settle()
    current, coordinator = hands.segmentation, hands.widget.coordinator
    watched = {
        "segmentation": weakref.ref(current),
        "session": weakref.ref(current.session),
        "history": weakref.ref(current.session.history),
        "writer": weakref.ref(current.writer),
        "voxels": weakref.ref(current.session.image),
    }
    kept = hands.writer.own  # as napari does with some layers that are gone
    coordinator.close(wait=True)
    hands.viewer.layers.clear()
    del current, coordinator, other
    for _ in range(2):  # the widgets, then what Qt kept of their connections
        hands.qtbot.wait(150)
        QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
        gc.collect()
    alive = [name for name, thing in watched.items() if thing() is not None]
    assert not alive and kept
    assert not [t.name for t in threading.enumerate() if t.name.startswith("napari-sammed-plugin")]
