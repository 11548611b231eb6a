"""The steps of examples/walkthrough.md in a real viewer: a picture of each, an annotated one, and a short film.

    python examples/walkthrough_pictures.py FOLDER

Uses the synthetic torso, the random walker and LiteMedSAM. Needs a display
(``xvfb-run -a -s "-screen 0 1600x1000x24"`` gives one).
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QWidget
from screenshots import LEFT, NOTHING, Tour, targets

from napari_sammed.plugin.views.object_model import column_number
from napari_sammed.samples import load

_WIDTH = 900  # pixels of the film
_MARK = "#ffd600"


class Film:
    """Frames of the whole window, for an animated picture.

    Parameters
    ----------
    guide : Tour
    """

    def __init__(self, guide: Tour) -> None:
        self._guide = guide
        self._frames: list[Image.Image] = []
        self._times: list[int] = []

    def frame(self, milliseconds: int, text: str) -> None:
        """Take one, with a line of text below it, to be shown for a time."""
        QTest.qWait(150)
        window = Image.fromarray(self._guide.viewer.screenshot(canvas_only=False, flash=False)[..., :3])
        window = window.resize((_WIDTH, round(_WIDTH * window.height / window.width)), Image.Resampling.LANCZOS)
        frame = Image.new("RGB", (window.width, window.height + 34), "#111111")
        frame.paste(window)
        ImageDraw.Draw(frame).text((12, window.height + 8), text, "#ffffff", ImageFont.load_default(16))
        self._frames.append(frame)
        self._times.append(milliseconds)

    def save(self, path: Path) -> None:
        """Write all frames, each with its own colours."""
        frames = [frame.quantize(256, dither=Image.Dither.NONE) for frame in self._frames]
        frames[0].save(path, save_all=True, append_images=frames[1:], duration=self._times, loop=0, optimize=True)
        print(f"{path}: {len(frames)} frames, {path.stat().st_size / 1e6:.2f} MB")


def walk(folder: Path) -> None:
    """Liver from clicks, a kidney from a box carried through the volume, brush, table."""
    sample = load("torso")
    guide = Tour(sample, folder)
    film = Film(guide)
    panel = guide.panel
    panel.sections["classes"].set_open(False)
    (liver, low, _), (kidney, kidney_low, kidney_high) = targets(sample)
    guide.look_at(liver)
    guide.picture("opened")
    film.frame(1200, "A CT, and the panel on the right")

    guide.mode("positive")
    guide.hover(liver)
    film.frame(900, "Point +: an outline shows what a click would mark")
    guide.click(liver)
    film.frame(1500, "A click marks the liver, in all slices")
    guide.picture("first_click")
    guide.click((liver[0], low[1] - 3, liver[2]), "negative")
    rename(guide, 1, "Liver")
    film.frame(1200, "Point -: what does not belong to it")

    QTest.mouseClick(panel.objects.new_button, LEFT)
    guide.settle()
    panel.image_section.model.box.set_key("litemedsam")
    guide.look_at(kidney)
    start, stop = (kidney[0], kidney_low[1], kidney_low[2]), (kidney[0], kidney_high[1], kidney_high[2])
    half_way(guide, start, stop, film)
    guide.drag(start, stop)
    rename(guide, 2, "Kidney")
    film.frame(1500, "Box: another object, here from LiteMedSAM")
    guide.picture("box")

    QTest.mouseClick(panel.actions_["propagate"], LEFT)
    session = guide.widget.coordinator.current.session
    for slices in (4, 9, 14):
        while session.busy and (session.growth is None or len(session.growth.pieces) < slices):
            QTest.qWait(30)
        film.frame(500, "Propagate: it grows through the volume; the strip says how sure each slice is")
    guide.settle(900)
    film.frame(1800, "Propagate: it grows through the volume; the strip says how sure each slice is")
    guide.picture("propagated")
    annotate(guide, folder / "annotated.png")

    for layer in guide.viewer.layers:
        layer.visible = layer is guide.widget.coordinator.current.writer.labels
    guide.viewer.dims.ndisplay = 3
    guide.settle()
    camera = guide.viewer.scene.camera if hasattr(guide.viewer, "scene") else guide.viewer.camera
    camera.angles = (0, 20, 60)
    film.frame(2500, "Both in 3D; Save writes them on the image's own grid")
    film.save(folder / "walkthrough.gif")
    guide.widget.coordinator.close(wait=True)
    guide.viewer.close()


def rename(guide: Tour, label: int, name: str) -> None:
    """As if typed into the table."""
    model = guide.panel.objects.model
    model.setData(model.index(label - 1, column_number("name")), name)
    guide.settle()


def half_way(guide: Tour, start: Sequence[float], stop: Sequence[float], film: Film) -> None:
    """A frame while the rectangle is being drawn, which is then left again."""
    guide.mode("box")
    places = [guide.position(np.array(start) + np.subtract(stop, start) * t) for t in (0.0, 0.3, 0.7)]
    QTest.mouseMove(guide.canvas, places[0])
    QTest.mousePress(guide.canvas, LEFT, NOTHING, places[0])
    for place in places[1:]:
        QTest.mouseMove(guide.canvas, place)
        QTest.qWait(50)
    film.frame(700, "Box: another object, here from LiteMedSAM")
    QTest.mouseMove(guide.canvas, places[0])
    QTest.mouseRelease(guide.canvas, LEFT, NOTHING, places[0])
    guide.settle()
    guide.act("undo") if guide.widget.coordinator.current.session.objects[2].prompts else None


def annotate(guide: Tour, path: Path) -> None:
    """The window with numbers beside the parts that docs/napari.md explains."""
    window = guide.viewer.window._qt_window
    picture = Image.fromarray(guide.viewer.screenshot(canvas_only=False, flash=False)[..., :3])
    ratio = picture.width / window.width()
    draw = ImageDraw.Draw(picture)
    panel = guide.panel
    parts: Sequence[QWidget] = (
        panel.image_section.image,
        panel.image_section.model,
        panel.modes,
        panel.objects.table,
        panel.actions_["propagate"],
        panel.cockpit,
        panel.closer,
        panel.status.message,
    )
    for number, part in enumerate(parts, 1):
        if part.isVisible():
            place = part.mapTo(window, QPoint(0, min(part.height() // 2, 40)))
            badge(draw, (place.x() * ratio - 16, place.y() * ratio), number)
    badge(draw, (picture.width * 0.5, picture.height * 0.16), len(parts) + 1)
    picture.save(path, optimize=True)
    print(path)


def badge(draw: ImageDraw.ImageDraw, place: tuple[float, float], number: int) -> None:
    x, y = place
    draw.ellipse((x - 13, y - 13, x + 13, y + 13), _MARK, "#000000", 2)
    draw.text((x, y), str(number), "#000000", ImageFont.load_default(17), anchor="mm")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as sessions:
        os.environ["NAPARI_SAMMED_SESSIONS"] = os.environ["NAPARI_SAMMED_CONFIG"] = sessions
        application = QApplication.instance() or QApplication([])
        application.setAttribute(Qt.ApplicationAttribute.AA_DontUseNativeDialogs, True)
        walk(arguments.folder)
        application.processEvents()


if __name__ == "__main__":
    main()
