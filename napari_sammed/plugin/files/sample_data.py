"""The samples of `napari_sammed.samples` as napari layers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias

import numpy as np

from napari_sammed.plugin.files.reader import image_layer
from napari_sammed.plugin.image.coordinates import placement
from napari_sammed.samples import SAMPLES, Sample, load

LayerData: TypeAlias = tuple[np.ndarray, dict[str, Any], str]

_POLL = 50  # ms


def brain() -> list[LayerData]:
    """The MNI152 T1 template, with its tissues as a hidden label layer."""
    return layers_of(_beside_the_gui("brain"))


def torso() -> list[LayerData]:
    """A torso of simple shapes, made on the fly, with its organs as a hidden label layer."""
    return layers_of(_beside_the_gui("torso"))


def abdomen() -> list[LayerData]:
    """A CT of an abdomen, fetched once."""
    return layers_of(_beside_the_gui("abdomen"))


def layers_of(sample: Sample) -> list[LayerData]:
    """An image layer and, where there are any, the reference labels, hidden."""
    name = sample.image.name or "sample"
    data, keywords, kind = image_layer(sample.image, name)
    keywords["metadata"]["licence"] = sample.licence
    layers: list[LayerData] = [(data, keywords, kind)]
    if sample.labels is not None:
        reference = {"name": f"{name} reference", "visible": False, "opacity": 0.5, "metadata": dict(sample.names)}
        layers.append((np.asarray(sample.labels), {**reference, **placement(sample.image.grid)}, "labels"))
    return layers


def _beside_the_gui(name: str) -> Sample:
    """Load a sample while the viewer stays usable; napari wants the layers from the call itself."""
    from qtpy.QtCore import QEventLoop, QTimer
    from qtpy.QtWidgets import QApplication

    if QApplication.instance() is None:
        return load(name)
    from napari.utils import progress

    with ThreadPoolExecutor(1) as pool, progress(total=100, desc=SAMPLES[name]) as bar:
        done = [0]
        future = pool.submit(load, name, lambda count, total: done.__setitem__(0, round(100 * count / (total or 1e9))))

        def look() -> None:
            bar.update(max(done[0] - bar.n, 0))
            if future.done():
                loop.quit()

        loop, timer = QEventLoop(), QTimer()
        timer.timeout.connect(look)
        timer.start(_POLL)
        loop.exec()
        return future.result()
