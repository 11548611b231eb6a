"""SegVol's zoom-out-zoom-in on a volume with all the habits of the official code, for comparing numbers.

Its answers depend on random points and lose negative ones on the way in; for work with images the backend looks closer
in a better way. The steps are those of `napari_sammed.models.zooming`; the way back to the image, which the official
code lacks, is added.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from threading import Event

import numpy as np

from napari_sammed.errors import Cancelled, InputError
from napari_sammed.models import zooming
from napari_sammed.models.segvol import SegVol, enlarged
from napari_sammed.models.segvol_windows import WindowRegion, measured
from napari_sammed.models.windows import window_boxes
from napari_sammed.models.zooming import WindowPrompts
from napari_sammed.prompts import Prompts
from napari_sammed.volume import Volume


def published(
    model: SegVol,
    image: Volume,
    prompts: Prompts | WindowPrompts,
    draw: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]] | None = None,
    cancel: Event | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> np.ndarray:
    """Look at the whole foreground, then closer wherever that gave positive logits; holds copies of the volume.

    Parameters
    ----------
    model : SegVol
    image : Volume
    prompts : Prompts or WindowPrompts
        One box, or points: in the image, or as the official code says them, in the window that shows the foreground.
    draw : callable, optional
        Picks the points of a window, see `napari_sammed.models.zooming.zoom_in`. Without, a generator with a fixed seed
        does; its points are not those of the official code, which come from torch's.
    cancel, progress : optional
        Asked and told before each window.

    Returns
    -------
    ndarray of float32
        Logits of shape ``image.grid.shape``, positive inside; minus infinity outside of the foreground.

    Raises
    ------
    InputError
        For what the model's own steps refuse, and for a box together with points, as in the official code.
    Cancelled
    """
    whole = model.plan(image.grid, Prompts(), None).box
    limits, foreground = measured(image)
    if isinstance(prompts, Prompts):
        prompts, *more = model.asked(WindowRegion.showing(image.grid, foreground, model.window), prompts)
        if more:
            raise InputError("The published way takes one box, not several.")
    if prompts.box is not None and prompts.points is not None:
        raise InputError("The published way takes a box or points, not both.")
    if prompts.points is not None and draw is None:
        draw = partial(zooming.drawn_points, rng=np.random.default_rng(0))

    def look(values: np.ndarray, asked: WindowPrompts) -> np.ndarray:
        return enlarged(model.answer(model.encode(values), asked), model.window)

    part = zooming.scaled(image.part(foreground), limits)
    coarse = zooming.stretched(look(zooming.shrunk(part, model.window), prompts), part.shape)
    shown = zooming.prompt_map(model.window, box=prompts.box, points=prompts.points, labels=prompts.labels)
    region = zooming.focus(coarse > 0, model.window)
    total = 0 if region is None else len(window_boxes(list(map(max, region.shape, model.window)), model.window))
    done = 0

    def ask(values: np.ndarray, asked: WindowPrompts) -> np.ndarray:
        nonlocal done
        if cancel is not None and cancel.is_set():
            raise Cancelled
        if progress is not None:
            progress("looking closer", done / total)
        done += 1
        return look(values, asked)

    logits = np.full(whole.shape, -np.inf, np.float32)
    logits[foreground.slices] = zooming.zoom_in(
        part, coarse, zooming.stretched(shown, part.shape), model.window, ask, draw
    )
    return logits
